/// The order of the modules and what follows from it: a pure check over the package's description and the import lines.
struct Rules {
    /// From the bottom up. A target depends only on what stands before it.
    static let order = [
        "CLibvirt", "CSQLite", "CMicroHTTPD", "CCurl", "CXML2", "CPostgreSQL", "CRabbitMQ", "CGnuTLS", "CCrypt",
        "CSystem",
        "Model", "GuestHardware", "HostTopology", "PCIDevices", "ImageFormat", "SQL", "Telemetry", "Configuration",
        "Crypto", "Periodic", "Metadata",
        "XML",
        "Processes", "HTTP",
        "RPC", "SQLite", "PostgreSQL", "AMQP",
        "Tasks", "TaskStore", "Libvirt", "Scheduling", "Identity", "Images", "Compute", "LibvirtDriver", "Database",
        "SchedulerService", "Conductor", "Placement", "ComputeAPI", "Notifications", "Simulation",
        "CommandLine", "PostgreSQLServer",
        "apus-bench", "apus-compute", "apus-conductor", "apus-scheduler", "apus-api", "apus",
    ]

    /// The one target that may see each C library.
    static let owners: [String: String] = [
        "CLibvirt": "Libvirt", "CSQLite": "SQLite", "CMicroHTTPD": "HTTP", "CCurl": "HTTP", "CXML2": "XML",
        "CPostgreSQL": "PostgreSQL", "CRabbitMQ": "AMQP", "CGnuTLS": "Crypto", "CCrypt": "Crypto",
    ]

    /// The C library itself: no wrapper could own it.
    static let shared: Set<String> = ["CSystem"]

    /// Targets with a narrower list than the order gives them.
    static let narrow: [String: Set<String>] = [
        "Model": [],
        "GuestHardware": ["Model"],
        "HostTopology": ["Model", "GuestHardware"],
        "PCIDevices": ["Model"],
        "SQL": ["Model"],
        "TaskStore": ["Model", "SQL", "Telemetry", "RPC", "Tasks"],
        "Scheduling": ["Model", "GuestHardware", "HostTopology"],
        "Libvirt": ["CLibvirt", "CSystem", "Telemetry", "XML"],
        "Tasks": ["Model", "Telemetry"],
        "Periodic": ["Model", "Telemetry"],
    ]

    /// What the agent must not carry, directly or through another target.
    static let forbiddenForAgent: Set<String> = ["CPostgreSQL", "PostgreSQL", "CRabbitMQ", "AMQP", "Database"]

    /// Modules of the toolchain that sources may import. Not Foundation: it brings ICU's 44 MB with it.
    static let toolchain: Set<String> = ["FoundationEssentials", "Glibc", "Synchronization"]

    var package: PackageDescription
    var lines: ImportLines

    private var targets: [PackageDescription.Target] { package.targets.filter { $0.type != "test" } }

    /// One sentence for each broken rule; empty when all hold.
    func violations() -> [String] {
        packages() + edges() + owned() + agent() + undeclared()
    }

    private func packages() -> [String] {
        var found = package.dependencies.isEmpty ? [] : ["The package depends on another package."]
        for target in package.targets {
            for dependency in target.dependencies where dependency.isOfAnotherPackage {
                found.append("\(target.name) depends on a product of another package: \(dependency.name).")
            }
        }
        return found
    }

    private func edges() -> [String] {
        var found: [String] = []
        for target in targets {
            guard let place = Self.order.firstIndex(of: target.name) else {
                found.append("\(target.name) has no place in the order of the modules.")
                continue
            }
            for dependency in target.dependencies {
                if let above = Self.order.firstIndex(of: dependency.name), above >= place {
                    found.append("\(target.name) depends on \(dependency.name), which stands below it.")
                }
                if let allowed = Self.narrow[target.name], !allowed.contains(dependency.name) {
                    found.append("\(target.name) depends on \(dependency.name), which it must not know.")
                }
            }
        }
        return found
    }

    private func owned() -> [String] {
        var found: [String] = []
        for target in targets {
            for dependency in target.dependencies {
                if let owner = Self.owners[dependency.name], owner != target.name {
                    found.append("\(target.name) declares \(dependency.name), which only \(owner) may see.")
                }
            }
        }
        for line in lines.imports {
            if let owner = Self.owners[line.module], owner != line.target {
                found.append("\(line.place): \(line.target) imports \(line.module), which only \(owner) may see.")
            }
        }
        return found
    }

    private func agent() -> [String] {
        reachable(from: "apus-compute").intersection(Self.forbiddenForAgent).sorted().map {
            "apus-compute carries \($0)."
        }
    }

    private func reachable(from name: String) -> Set<String> {
        let edges = Dictionary(
            targets.map { ($0.name, $0.dependencies.map(\.name)) }, uniquingKeysWith: { first, _ in first })
        var seen: Set<String> = []
        var next = [name]
        while let target = next.popLast() {
            for dependency in edges[target] ?? [] where seen.insert(dependency).inserted { next.append(dependency) }
        }
        return seen
    }

    private func undeclared() -> [String] {
        let declared = Dictionary(
            targets.map { ($0.name, Set($0.dependencies.map(\.name))) }, uniquingKeysWith: { first, _ in first })
        return lines.imports.compactMap { line in
            if Self.toolchain.contains(line.module) { return nil }
            guard let own = declared[line.target] else { return "\(line.place): no target \(line.target) is declared." }
            return own.contains(line.module)
                ? nil : "\(line.place): \(line.target) imports \(line.module), which its target does not declare."
        }
    }
}
