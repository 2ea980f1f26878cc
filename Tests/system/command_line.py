"""The same mistakes, made at the command line."""


def run(rig):
    missing = "no-such-thing"
    table = [
        ("an unknown command", ["dance"], 2, ["dance"]),
        ("an unknown option", ["server", "list", "--colour"], 2, ["--colour"]),
        ("a missing argument", ["server", "show"], 2, ["SERVER"]),
        ("an unknown server", ["server", "show", missing], 1, [missing]),
        ("the console of an unknown server", ["server", "console", missing], 1, [missing]),
        ("a server of an unknown flavor",
         ["server", "create", "x", "--image", rig.image, "--flavor", missing], 1, [missing]),
        ("a server of an unknown image",
         ["server", "create", "x", "--image", missing, "--flavor", "m1.micro"], 1, [missing]),
        ("an image of a file that is not there",
         ["image", "create", "x", "--file", f"/{missing}"], 1, [f"/{missing}"]),
    ]
    for name, arguments, code, words in table:
        done = rig.apus.attempt(*arguments)
        problem = None
        if done.returncode != code:
            problem = f"exit code {done.returncode} instead of {code}: {done.stderr.strip()}"
        elif done.stdout:
            problem = f"it prints {done.stdout!r}"
        elif missed := [word for word in words if word.lower() not in done.stderr.lower()]:
            problem = f"'{done.stderr.strip()}' does not say {missed}"
        rig.checks.check(f"{name}: exit code {code}", problem)
    wrong = dict(rig.apus.environment, OS_AUTH_URL="http://127.0.0.1:9/identity/v3", OS_USERNAME="x", OS_PASSWORD="x",
                 OS_PROJECT_NAME="x")
    del wrong["OS_CLOUD"]
    rig.apus.environment, kept = wrong, rig.apus.environment
    try:
        done = rig.apus.attempt("server", "list")
    finally:
        rig.apus.environment = kept
    rig.checks.check(
        "an API that nobody serves: exit code 1",
        (done.returncode != 1 or "127.0.0.1:9" not in done.stderr) and f"{done.returncode}: {done.stderr.strip()}")
    rig.nothing_left("mistakes at the command line")
