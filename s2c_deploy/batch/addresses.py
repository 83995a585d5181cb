"""Addresses of folders: what they name, and what of them may be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from s2c_deploy.errors import InputError

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
#: Object storage that pyarrow knows, and whether a port may stand behind the name.  pyarrow's own local file system is
#: not among it: nothing would guard its folders.
_STORAGE = {"s3": False, "gs": False, "gcs": False, "abfs": True, "abfss": True, "hdfs": True, "viewfs": True}
_LOCAL = "file"
#: Of shorter ones, taking them out of a message would leave nothing of it; nor are they secrets.
_SECRET = 4


@dataclass(frozen=True, kw_only=True)
class Address:
    """Of object storage."""

    #: As pyarrow takes it: shown to nobody.
    whole: str
    #: Without login and options.
    shown: str
    #: What two addresses of one storage have in common: its kind, and the server that was named.
    storage: tuple[str, str]
    secrets: tuple[str, ...]

    def without_secrets(self, text: str) -> str:
        """A message of somebody else, on one line."""
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return " ".join(text.split())


def split_address(text: str) -> Address | str:
    """An address of object storage, or the path of a folder of this machine.  InputError for one that is neither."""
    if not text:
        raise InputError("expected a folder, found an empty name", hint="a variable may be unset")
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return text
    scheme, rest = match[1].lower(), match[2]
    if scheme == _LOCAL:
        return _local_path(text, rest)
    if scheme not in _STORAGE:
        known = ", ".join(f"{name}://" for name in (_LOCAL, *_STORAGE))
        raise InputError(f"address: expected {known}, found {scheme}://", hint="or name a folder by its path")
    if not text.isprintable() or "#" in text:
        raise InputError(f"address of {scheme}://: found '#', or what cannot be printed", hint="write %23 for '#'")
    return _storage_address(text, scheme, rest)


def _local_path(text: str, rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host.lower() not in ("", "localhost") or not slash:
        raise InputError(f"{text} names no folder of this machine", hint="file:///folder has three slashes")
    if "?" in path or "#" in path:
        raise InputError(f"{text}: found '?' or '#'", hint="write %3F or %23, or name the folder by its path")
    return f"/{unquote(path)}"


def _storage_address(text: str, scheme: str, rest: str) -> Address:
    named, _, options = rest.partition("?")
    authority, _, path = named.partition("/")
    login, _, host = authority.rpartition("@")
    _, colon, port = host.partition(":")
    if colon and not (_STORAGE[scheme] and port.isdigit()):  # a secret with a slash in it, perhaps: shown to nobody
        raise InputError(
            f"address of {scheme}://: expected a name, found ':' in it",
            hint="a login ends with '@', and a '/' in it is written %2F",
        )
    asked = dict(parse_qsl(options, keep_blank_values=True))
    secrets = {login, options, *login.split(":"), *asked.values()}
    secrets |= {form(secret) for secret in secrets for form in (unquote, _quoted)}
    path = re.sub("/+", "/", path).strip("/")
    return Address(
        whole=text,
        shown=f"{scheme}://{host}/{path}".rstrip("/"),
        storage=(scheme, asked.get("endpoint_override", "").lower()),
        secrets=tuple(sorted((s for s in secrets if len(s) >= _SECRET), key=len, reverse=True)),
    )


def _quoted(text: str) -> str:
    return quote(text, safe="")
