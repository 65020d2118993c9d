"""A server of one repository, as Hugging Face's hub serves it."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def serve(name: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder as the repository `name`; yield the address and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{name}/revision/"):
                files = [{"rfilename": p.name} for p in sorted(folder.iterdir())]
                about = {"id": name, "sha": COMMIT, "siblings": files}
                self._reply(200, json.dumps(about).encode())
            elif path.startswith(f"/api/models/{name}/tree/"):
                files = [
                    {
                        "type": "file",
                        "path": p.name,
                        "size": p.stat().st_size,
                        "oid": _sum(p),
                    }
                    for p in sorted(folder.iterdir())
                ]
                self._reply(200, json.dumps(files).encode())
            elif path.startswith(f"/{name}/resolve/"):
                file = folder / path.rpartition("/")[2]
                self._reply(200, file.read_bytes(), ETag=f'"{_sum(file)}"')
            else:
                self._reply(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def _reply(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            headers |= {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
