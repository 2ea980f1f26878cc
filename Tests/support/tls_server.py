"""An HTTPS server that a test plays."""

import http.server
import os
import ssl
import subprocess
import threading


class TLSServer(threading.Thread):
    """Answers on `address` with a certificate of its own, until it is stopped. A subclass says what."""

    def __init__(self, folder, address, name):
        super().__init__(daemon=True)
        key, self.certificate = os.path.join(folder, f"{name}.key"), os.path.join(folder, f"{name}.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{address}", "-keyout", key, "-out",
             self.certificate], check=True, capture_output=True)
        answer = self.answer

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                status, said = answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"https://{address}:{self.port}"

    def answer(self, method, path, headers, body):
        """The status and the bytes of an answer."""
        raise NotImplementedError

    def run(self):
        self.server.serve_forever(poll_interval=0.05)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
