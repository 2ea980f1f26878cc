"""A server in the conductor's place."""

import http.server
import os
import ssl
import subprocess
import threading


class Impostor(threading.Thread):
    """Answers with a certificate of its own, and keeps what it is sent."""

    def __init__(self, folder, address):
        super().__init__(daemon=True)
        key, certificate = os.path.join(folder, "impostor.key"), os.path.join(folder, "impostor.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=impostor", "-addext", f"subjectAltName=IP:{address}", "-keyout", key, "-out",
             certificate], check=True, capture_output=True)
        with open(certificate, "rb") as file:
            pem = file.read()
        self.requests = requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(f"{self.command} {self.path} {dict(self.headers)}")
                self.send_response(200)
                self.send_header("Content-Length", str(len(pem)))
                self.end_headers()
                self.wfile.write(pem)

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                requests.append(f"{self.command} {self.path} {dict(self.headers)} {body!r}")
                self.send_error(403)

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://{address}:{self.server.server_address[1]}"

    def run(self):
        self.server.serve_forever(poll_interval=0.05)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
