internal import Compute
internal import Glibc

// The figures that need no host: `claims`, `scheduler`; `task` needs a database, `rpc` a conductor.
let words = Array(CommandLine.arguments.dropFirst())
switch words.first {
case "claims": exit(await ClaimBench.run(Array(words.dropFirst())))
case "scheduler": exit(SchedulerBench.run(Array(words.dropFirst())))
case "task": exit(await TaskBench.run(Array(words.dropFirst())))
case "rpc": exit(await RPCBench.run(Array(words.dropFirst())))
default: exit(complain("usage: apus-bench claims|scheduler|task|rpc [options]"))
}
