"""A Hugging Face hub on the loopback that holds repositories in memory: the calls that an upload and a download make."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0123456789abcdef0123456789abcdef01234567"


class HubStub:
    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str | None] = set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                hub.tokens.add(self.headers.get("authorization"))
                parts = self.path.strip("/").split("/")
                if self.path == "/api/repos/create":
                    asked = json.loads(body)
                    name = f"{asked['organization']}/{asked['name']}"
                    hub.repositories.setdefault(name, {})
                    self.answer({"url": f"{hub.url}/{name}", "id": name})
                elif parts[-2] == "preupload":
                    files = json.loads(body)["files"]
                    told = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
                    self.answer({"files": told})
                elif parts[-2] == "commit":
                    name = "/".join(parts[2:4])
                    for line in map(json.loads, body.decode().splitlines()):
                        if line["key"] == "file":
                            value = line["value"]
                            hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
                    self.answer({"success": True, "commitOid": SHA, "commitUrl": f"{hub.url}/{name}/commit/{SHA}"})
                else:
                    self.answer({"errors": [], "warnings": []})

            def do_GET(self) -> None:
                parts = self.path.split("?")[0].strip("/").split("/")
                if parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in hub.repositories:
                    name = "/".join(parts[2:4])
                    if "tree" in parts:
                        sizes = hub.repositories[name].items()
                        self.answer([{"type": "file", "path": f, "size": len(c), "oid": SHA} for f, c in sizes])
                        return
                    files = [{"rfilename": f} for f in hub.repositories[name]]
                    self.answer({"id": name, "modelId": name, "sha": SHA, "siblings": files})
                elif "resolve" in parts and parts[-1] in hub.repositories.get("/".join(parts[:2]), {}):
                    content = hub.repositories["/".join(parts[:2])][parts[-1]]
                    etag = f'"{hashlib.sha256(content).hexdigest()}"'
                    self.answer(content, {"ETag": etag, "X-Repo-Commit": SHA})
                else:
                    self.answer({"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}, 404)

            do_HEAD = do_GET

            def answer(self, what: object, headers: dict[str, str] | None = None, code: int = 200) -> None:
                content = what if isinstance(what, bytes) else json.dumps(what).encode()
                self.send_response(code)
                for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
