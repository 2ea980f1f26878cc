internal import CSystem
internal import Compute
internal import ComputeAPI
internal import Conductor
internal import Configuration
internal import Database
internal import Glibc
internal import HTTP
internal import LibvirtDriver
internal import RPC
internal import SchedulerService

/// The configuration of `apus up` and of the doctor: the daemons' options in one, with the flags as overrides.
struct UpSettings: Sendable {
    /// A role's listening address.
    struct Listen: Sendable {
        var role: String
        var option: String
        var address: ListenAddress
        /// Whether it speaks TLS: everything beyond loopback, unless plaintext is allowed.
        var isSecure: Bool

        /// Where this machine itself reaches it.
        var url: String { "\(isSecure ? "https" : "http")://\(reachable)" }

        private var reachable: String {
            switch address.address {
            case "0.0.0.0": "127.0.0.1:\(address.port)"
            case "::": "[::1]:\(address.port)"
            default: address.description
            }
        }
    }

    static let options = [
        OptionSpec(name: "config-file", value: "FILE", help: "Read this INI file; later ones win.", isRepeated: true),
        OptionSpec(
            name: "set", value: "SECTION.OPTION=VALUE", help: "Override one option; may be repeated.", isRepeated: true),
        OptionSpec(name: "state-path", value: "FOLDER", help: "Where everything is kept; /var/lib/apus when absent."),
        OptionSpec(name: "network", value: "KIND:NAME", help: "Where NICs are plugged: libvirt:NAME or bridge:NAME."),
        OptionSpec(name: "api-port", value: "PORT", help: "Of the public API; 0 takes a free one."),
        OptionSpec(name: "conductor-port", value: "PORT", help: "Of the conductor's RPC."),
        OptionSpec(name: "scheduler-port", value: "PORT", help: "Of the scheduler's RPC."),
        OptionSpec(name: "agent-port", value: "PORT", help: "Of the agent's RPC."),
    ]

    static let daemonOptions: [AnyOption] =
        CommonOptions.all + APIService.options + ConductorOptions.all + SchedulerOptions.all + ComputeOptions.all
        + LibvirtDriverOptions.all

    private(set) var configuration: Configuration
    /// The files that were read.
    let files: [String]

    init(_ invocation: Invocation) throws {
        var files = invocation.all("config-file")
        let standard = "/etc/apus/apus.conf"
        if files.isEmpty, access(standard, F_OK) == 0 { files = [standard] }
        var overrides = invocation.all("set")
        if let path = invocation.value("state-path") {
            guard path.hasPrefix("/") else {
                throw CommandError.usage("--state-path takes an absolute path, not '\(path)'.")
            }
            overrides.append("DEFAULT.state_path=\(path)")
        }
        if let network = invocation.value("network") { overrides.append("compute.network=\(network)") }
        for role in Self.roles {
            guard let port = try invocation.number("\(role.name)-port", in: 0...65_535) else { continue }
            overrides.append("\(role.option)=127.0.0.1:\(port)")
        }
        try self.init(files: files, overrides: overrides)
    }

    /// What the files say, with `overrides` in the form of `--set`.
    init(files: [String], overrides: [String]) throws {
        do {
            configuration = try Configuration.load(files: files, overrides: overrides, options: Self.daemonOptions)
        } catch {
            throw CommandError.failure(describe(error))
        }
        self.files = files
    }

    private static let roles = [
        (name: "api", option: "api.listen"), (name: "conductor", option: "conductor.listen"),
        (name: "scheduler", option: "scheduler.listen"), (name: "agent", option: "compute.listen"),
    ]

    var statePath: String { configuration[CommonOptions.statePath] }

    var instancesPath: String { LibvirtDriverOptions.resolvedInstancesPath(configuration) }

    /// The four listening addresses, in the order api, conductor, scheduler, agent.
    var listens: [Listen] {
        let texts = [
            configuration[APIOptions.listen], configuration[ConductorOptions.listen],
            configuration[SchedulerOptions.listen], configuration[ComputeOptions.listen],
        ]
        return zip(Self.roles, texts).compactMap { role, text in
            guard let address = try? ListenAddress(text) else { return nil }
            return Listen(
                role: role.name, option: role.option, address: address,
                isSecure: !address.isLoopback && !configuration[RPCOptions.allowPlaintext])
        }
    }

    /// The URL under which this machine reaches a role; "" for a role that there is not.
    func url(of role: String) -> String { listens.first { $0.role == role }?.url ?? "" }

    var database: DatabaseLocation { DatabaseOptions.location(configuration) }

    /// The same with a number in the place of every port 0, and the roles told of each other's addresses where the
    /// person has not named them.
    func connected() throws -> UpSettings {
        var settings = self
        var urls: [String: String] = [:]
        for listen in listens where listen.address.port == 0 {
            let text = listen.address.description.dropLast(2)
            let port = try freePort(on: listen.address.address)
            settings.configuration = try settings.configuration.setting(listen.option, to: "\(text):\(port)")
        }
        for listen in settings.listens { urls[listen.role] = listen.url }
        let derived = [
            ("api.conductor_urls", urls["conductor"]), ("conductor.scheduler_urls", urls["scheduler"]),
            ("scheduler.conductor_urls", urls["conductor"]), ("image.data_url", urls["api"]),
        ]
        for (key, url) in derived where settings.configuration.source(of: key) == "default" {
            if let url { settings.configuration = try settings.configuration.setting(key, to: url) }
        }
        return settings
    }
}

/// A port that was free a moment ago: the roles need each other's before any of them listens.
func freePort(on address: String) throws -> UInt16 {
    let family = address.contains(":") ? AF_INET6 : AF_INET
    let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { throw FileError(path: "socket", call: "socket", code: errno) }
    defer { close(descriptor) }
    // Any address of the family will do: the number is what counts.
    var name4 = sockaddr_in()
    var name6 = sockaddr_in6()
    name4.sin_family = sa_family_t(AF_INET)
    name6.sin6_family = sa_family_t(AF_INET6)
    func bound<Address>(_ value: inout Address) -> Bool {
        var length = socklen_t(MemoryLayout<Address>.size)
        return withUnsafeMutablePointer(to: &value) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
    }
    guard family == AF_INET6 ? bound(&name6) : bound(&name4) else {
        throw FileError(path: "socket", call: "bind", code: errno)
    }
    return UInt16(bigEndian: family == AF_INET6 ? name6.sin6_port : name4.sin_port)
}
