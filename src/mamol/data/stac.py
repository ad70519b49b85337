"""STAC documents: an Item is a tile, its assets are files of modalities.

STAC (1.0 and 1.1) is read as plain JSON. An ItemCollection holds items; a Collection or Catalog leads to them by links
with rel = "item". nodata, scale and offset come from `raster:bands` (1.0), `bands` or the asset itself (1.1). Everything
else an item says is left unread: the files say it themselves. A relative href is taken from the document it stands in.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from mamol.data.handles import is_remote, resolve
from mamol.data.spec import Source
from mamol.errors import DataError, FileMissing, UsageError, repeated

SECONDS = 60
NO_VALUES = {"thumbnail", "overview", "metadata", "visual"}
"""Roles of assets that hold no measured values."""
RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".dat")


@dataclass(frozen=True)
class Item:
    """A STAC item: the name of its tile, its assets, and which of them look like rasters of measured values."""

    name: str
    assets: dict[str, Source]
    rasters: tuple[str, ...]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


_Number = Annotated[float | None, Field(allow_inf_nan=False)]


class _Band(_Part):
    nodata: float | None = None
    scale: _Number = Field(None, validation_alias=AliasChoices("raster:scale", "scale"))
    offset: _Number = Field(None, validation_alias=AliasChoices("raster:offset", "offset"))


class _Asset(_Band):
    href: str = Field(min_length=1)
    type: str | None = None
    roles: tuple[str, ...] | None = None
    raster_bands: tuple[_Band, ...] | None = Field(None, alias="raster:bands")
    bands: tuple[_Band, ...] | None = None

    def source(self, base: str) -> Source:
        """Return the asset as a source; a band that says nothing has what the asset says."""
        bands = self.raster_bands or self.bands or (self,)
        nodata = [self.nodata if b.nodata is None else b.nodata for b in bands]
        scale = [next((s for s in (b.scale, self.scale) if s is not None), 1.0) for b in bands]
        offset = [next((o for o in (b.offset, self.offset) if o is not None), 0.0) for b in bands]
        return Source(_joined(base, self.href), None, None, None, _once(nodata), _once(scale), _once(offset))

    def is_raster(self) -> bool:
        """Tell whether it looks like a raster of measured values."""
        image = (self.type or "").startswith(("image/tiff", "image/jp2", "image/vnd.stac.geotiff"))
        return not NO_VALUES & set(self.roles or ()) and (image or urlsplit(self.href).path.lower().endswith(RASTER_SUFFIXES))


class _Item(_Part):
    id: str = Field(min_length=1)
    assets: dict[str, _Asset] = Field(min_length=1)


class _Link(_Part):
    rel: str
    href: str = Field(min_length=1)


class _Collection(_Part):
    id: str = Field(min_length=1)
    links: tuple[_Link, ...]


P = TypeVar("P", bound=_Part)


def read_items(place: str) -> tuple[str, dict[str, Item]]:
    """Return the name of a STAC document and its items by the name of their tile, in order.

    A tile is named as its item's id, other characters than letters, digits, "_", "." and "-" replaced by "_". Raises
    FileMissing, and DataError for what is no STAC, a broken item, no items, or two of one name.
    """
    document, found = _fetch(place), []
    kind = document.get("type")
    if kind == "Feature":
        found, name = [_item(document, place)], str(document.get("id"))
    elif kind == "FeatureCollection":
        found, name = [_item(f, place) for f in document.get("features") or ()], Path(urlsplit(place).path).stem
    elif kind in ("Collection", "Catalog"):
        collection = _checked(_Collection, document, place)
        hrefs = [_joined(place, link.href) for link in collection.links if link.rel == "item"]
        found, name = [_item(_fetch(h), h) for h in hrefs], collection.id
    else:
        raise DataError(f"{place} is no STAC Item, ItemCollection, Collection or Catalog: its type is {kind!r}.")
    if not found:
        raise DataError(f'{place} has no items (features, or links with rel = "item"); give an ItemCollection or an Item.')
    names = [i.name for i in found]
    if twice := sorted(repeated(names)):
        raise DataError(f"{place} has several items named {', '.join(twice)}; tiles need different names.")
    return name, dict(zip(names, found, strict=True))


def _item(document: Any, place: str) -> Item:
    known = document if isinstance(document, dict) else {}
    if known.get("type") != "Feature" or "assets" not in known:
        raise DataError(
            f"{place}: {known.get('id', 'a feature')!r} is no STAC Item (a Feature with assets); is it a file of polygons?"
        )
    item = _checked(_Item, document, place)
    name = re.sub(r"[^\w.-]+", "_", item.id).lstrip(".") or "item"
    assets = {key: asset.source(place) for key, asset in item.assets.items()}
    return Item(name, assets, tuple(k for k, a in item.assets.items() if a.is_raster()))


def _checked(kind: type[P], document: dict[str, Any], place: str) -> P:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise DataError(f"{place}: item {document.get('id')!r}: {where}: {first['msg']}; mend the document.") from None


def _fetch(place: str) -> dict[str, Any]:
    """Return a JSON document from a file, or over http(s)."""
    remote = is_remote(place)
    if remote and not place.startswith(("http://", "https://")):
        raise UsageError(f"a STAC document is read from a file or over http(s), not from {place}; download it.")
    try:
        if remote:
            with urllib.request.urlopen(place, timeout=SECONDS) as answer:
                content = answer.read()
        else:
            content = Path(place).read_bytes()
        document = json.loads(content)
    except urllib.error.HTTPError as error:
        kind = FileMissing if error.code in (404, 410) else DataError
        raise kind(f"STAC document {place}: HTTP {error.code} {error.reason}; check the address and access.") from None
    except FileNotFoundError:
        raise FileMissing(f"STAC document not found: {place}; check the path or the link that leads to it.") from None
    except ValueError as error:
        raise DataError(f"{place} is not valid JSON ({error}); get the document anew.") from None
    except (OSError, HTTPException) as error:
        raise DataError(f"STAC document {place} cannot be read ({error}); try again.") from error
    if not isinstance(document, dict):
        raise DataError(f"{place} holds a {type(document).__name__}, not a STAC document.")
    return document


def _joined(base: str, href: str) -> str:
    """Return where a link of a document leads; a remote document does not lead to local files.

    The name of a local file may stand as it is or percent-encoded, as in a URL; as it is comes first.
    """
    if not is_remote(base):
        place, decoded = (resolve(text, Path(base).parent) for text in (href, unquote(href)))
        return decoded if not is_remote(place) and not os.path.exists(place) and os.path.exists(decoded) else place
    joined = urljoin(base, href)
    if not is_remote(joined):
        raise DataError(f"{base} names the file {href}, which is not on a server; a remote STAC document needs URLs.")
    return joined


def _once(values: list[Any]) -> tuple[Any, ...]:
    """Return one entry if all say the same (two NaN do)."""
    return tuple(values) if len({str(v) for v in values}) > 1 else (values[0],)
