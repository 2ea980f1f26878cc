internal import Compute
internal import Configuration
internal import Glibc
internal import HTTP
internal import LibvirtDriver
internal import Model
internal import RPC

// The agent as a daemon of its own; with --join, the exchange that makes a host part of a cloud.
#if FaultInjection
    let testFlags = [
        ServiceProgram.Flag("--list-steps", value: nil, help: "Print the operations and their steps, and end.")
    ]
#else
    let testFlags: [ServiceProgram.Flag] = []
#endif
let program = ServiceProgram(
    name: "apus-compute", summary: "runs virtual machines on this host, on a conductor's command",
    version: "0.1.0", options: ComputeOptions.all + RPCOptions.all + LibvirtDriverOptions.all,
    flags: [
        .init("--join", value: "URL", help: "Join the cloud of the conductor at URL, and end."),
        .init("--token-file", value: "FILE", help: "The file with the one-time token for --join."),
    ] + testFlags)

await program.run { context in
    let configuration = context.configuration
    if let url = context.flags["--join"] {
        try await join(url, tokenFile: context.flags["--token-file"], configuration)
        return
    }
    #if FaultInjection
        if context.flags["--list-steps"] != nil {
            for line in operationStepLines() { print(line) }
            return
        }
    #endif
    let agent = Agent(configuration: configuration, driver: LibvirtDriver(configuration: configuration))
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await agent.run() }
        group.addTask {
            guard await agent.ready() else { return }
            context.ready("Serving as \(configuration[CommonOptions.host])")
        }
        try await group.waitForAll()
    }
}

@Sendable func join(_ url: String, tokenFile: String?, _ configuration: Configuration) async throws {
    guard let tokenFile else { throw Failure(.invalidParameters, "--join needs --token-file") }
    let listen = try ListenAddress(configuration[ComputeOptions.listen])
    let own = configuration[ComputeOptions.myIP]
    // An address that means "all of them" tells a conductor nothing; joinHost refuses it.
    let identity = try await joinHost(
        url: url, token: try JoinToken.read(from: tokenFile), host: HostName(configuration[CommonOptions.host]),
        address: own.isEmpty ? listen.address : own, port: listen.port,
        statePath: configuration[CommonOptions.statePath], allowPlaintext: configuration[RPCOptions.allowPlaintext])
    print("Host \(identity.host) has joined \(url).")
}
