internal import Compute
internal import Glibc

exit(await ClaimBench.run(Array(CommandLine.arguments.dropFirst())))
