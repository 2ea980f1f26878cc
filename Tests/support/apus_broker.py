"""A RabbitMQ broker of one run's own, on the loopback of the private host that the program runs in."""

import os
import shutil
import signal
import subprocess
import tempfile

from apus_host import clean_environment, end, wait_for

SCRIPTS = "/usr/lib/rabbitmq/bin"
PORT = 5672
TLS_PORT = 5671
START_SECONDS = 90


class Broker:
    """Made and started by `with`; what is in it is gone afterwards."""

    url = f"amqp://guest@127.0.0.1:{PORT}/"
    # With a certificate that nobody knows but who has `certificate`.
    tls_url = f"amqps://guest@localhost:{TLS_PORT}/"

    def __init__(self):
        if not os.path.exists(SCRIPTS):
            raise RuntimeError(f"there is no broker in {SCRIPTS}: install the package rabbitmq-server")
        self.folder = tempfile.mkdtemp(prefix="apus-broker-", dir="/tmp")
        self.process = None
        key, self.certificate = f"{self.folder}/broker.key", f"{self.folder}/broker.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out",
             self.certificate], check=True, capture_output=True)
        with open(f"{self.folder}/broker.conf", "w", encoding="ascii") as file:
            file.write(f"listeners.tcp.1 = 127.0.0.1:{PORT}\nlisteners.ssl.1 = 127.0.0.1:{TLS_PORT}\n"
                       f"ssl_options.certfile = {self.certificate}\nssl_options.keyfile = {key}\n"
                       f"ssl_options.cacertfile = {self.certificate}\n")
        # Erlang's directory of nodes; without one a node starts its own, which outlives it.
        self.directory = None
        self.environment = clean_environment()
        self.environment.update(
            HOME=self.folder, RABBITMQ_NODENAME="apus@localhost", RABBITMQ_MNESIA_BASE=f"{self.folder}/data", RABBITMQ_LOG_BASE=f"{self.folder}/log",
            RABBITMQ_PID_FILE=f"{self.folder}/pid", RABBITMQ_ENABLED_PLUGINS_FILE=f"{self.folder}/plugins",
            RABBITMQ_CONF_ENV_FILE=f"{self.folder}/none", RABBITMQ_CONFIG_FILE=f"{self.folder}/broker.conf",
            ERL_EPMD_ADDRESS="127.0.0.1")

    def _spawn(self, *command):
        with open(os.path.join(self.folder, "server.log"), "ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                    env=self.environment, start_new_session=True)

    def start(self):
        """Starts it and waits until it has its queues."""
        self.process = self._spawn(os.path.join(SCRIPTS, "rabbitmq-server"))

        def answers():
            if self.process.poll() is not None:
                raise RuntimeError(f"the broker ended with {self.process.returncode}:\n{self.tail()}")
            return self.tool("amqp-declare-queue", "--queue", "ready").returncode == 0

        wait_for(answers, START_SECONDS, "the broker to answer", pause=0.3)

    def tail(self):
        with open(os.path.join(self.folder, "server.log"), encoding="utf-8", errors="replace") as file:
            return file.read()[-3000:]

    def tool(self, program, *arguments):
        return subprocess.run([program, "--server", "127.0.0.1", "--port", str(PORT), *arguments],
                              stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)

    def take(self, queue):
        """Everything that waits in a queue, in its order; it is gone from there."""
        found = []
        while True:
            got = self.tool("amqp-get", "--queue", queue)
            if got.returncode == 2:
                return found
            if got.returncode != 0:
                raise RuntimeError(f"amqp-get ended with {got.returncode}: {got.stderr.decode()}")
            found.append(got.stdout)

    def kill(self):
        """SIGKILLs it and the helpers that it has started."""
        process, self.process = self.process, None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def __enter__(self):
        try:
            self.directory = self._spawn("epmd", "-port", "4369")
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process:
            # Nothing of it is wanted any more.
            self.kill()
        if self.directory:
            end(self.directory, 10)
        shutil.rmtree(self.folder, ignore_errors=True)
