"""A server in the conductor's place."""

from tls_server import TLSServer


class Impostor(TLSServer):
    """Gives its own certificate to who asks for one, refuses the rest, and keeps what it is sent."""

    def __init__(self, folder, address):
        super().__init__(folder, address, "impostor")
        with open(self.certificate, "rb") as file:
            self.pem = file.read()
        self.requests = []

    def answer(self, method, path, headers, body):
        self.requests.append(f"{method} {path} {headers} {body!r}")
        return (200, self.pem) if method == "GET" else (403, b"")
