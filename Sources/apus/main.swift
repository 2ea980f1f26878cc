internal import CommandLine
internal import Glibc

exit(await ApusProgram.run(Array(Swift.CommandLine.arguments.dropFirst())))
