internal import Compute
internal import Glibc

// The figures that need no host: `claims`, `scheduler`.
let words = Array(CommandLine.arguments.dropFirst())
switch words.first {
case "claims": exit(await ClaimBench.run(Array(words.dropFirst())))
case "scheduler": exit(SchedulerBench.run(Array(words.dropFirst())))
default:
    let usage = Array("usage: apus-bench claims|scheduler [options]\n".utf8)
    _ = write(2, usage, usage.count)
    exit(2)
}
