"""A Hugging Face hub on the loopback that holds repositories in memory: the calls that an upload and a download make."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0123456789abcdef0123456789abcdef01234567"


class HubStub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str | None] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: HubStub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        self.server.tokens.add(self.headers.get("authorization"))
        parts = self.path.strip("/").split("/")
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            self.answer({"url": f"{self.server.url}/{name}", "id": name})
        elif parts[-2] == "preupload":
            told = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]
            self.answer({"files": told})
        elif parts[-2] == "commit":
            self.commit("/".join(parts[2:4]), body)
        else:
            self.answer({"errors": [], "warnings": []})

    def commit(self, name: str, body: str) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.answer({"success": True, "commitOid": SHA, "commitUrl": f"{self.server.url}/{name}/commit/{SHA}"})

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        name = "/".join(parts[2:4]) if parts[:2] == ["api", "models"] else "/".join(parts[:2])
        files = self.server.repositories.get(name, {})
        if "resolve" in parts and parts[-1] in files:
            etag = f'"{hashlib.sha256(files[parts[-1]]).hexdigest()}"'
            self.answer(files[parts[-1]], {"ETag": etag, "X-Repo-Commit": SHA})
        elif not files or "resolve" in parts:
            self.answer({"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}, 404)
        elif "tree" in parts:
            self.answer([{"type": "file", "path": f, "size": len(c), "oid": SHA} for f, c in files.items()])
        else:
            self.answer({"id": name, "modelId": name, "sha": SHA, "siblings": [{"rfilename": f} for f in files]})

    do_HEAD = do_GET  # noqa: N815

    def answer(self, what: object, headers: dict[str, str] | None = None, code: int = 200) -> None:
        content = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(code)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
