public import Compute
internal import Libvirt
public import Model
internal import XML

extension LibvirtDriver {
    public func guests() async throws -> [GuestObservation] {
        let statistics = try await connection(.statistics)
        let all = try await translated("listing guests") { try await statistics.statistics([.state]) }
        var guests: [GuestObservation] = []
        guests.reserveCapacity(all.count)
        for domain in all {
            let id = InstanceID(domain.identity.uuid)
            // Gone since the list was made.
            guard let entry = try await entry(of: id) else { continue }
            guests.append(
                GuestObservation(
                    id: id, name: domain.identity.name, powerState: PowerState(domain.status), isOurs: entry.isOurs,
                    remark: domain.status?.remark, size: entry.size))
        }
        return guests
    }

    func allDomains() async throws -> [InstanceID] {
        let connection = try await connection(.work)
        return try await translated("listing domains") { try await connection.domains().map { InstanceID($0.uuid) } }
    }

    public func observe(_ id: InstanceID) async throws -> GuestObservation? {
        guard let entry = try await entry(of: id) else { return nil }
        guard let status = try await status(of: id) else { return nil }
        return GuestObservation(
            id: id, name: entry.name, powerState: PowerState(status), isOurs: entry.isOurs, remark: status.remark)
    }

    /// What is known of a domain, asked of libvirt the first time; `nil` when there is none.
    func entry(of id: InstanceID) async throws -> DomainDirectory.Entry? {
        if let known = directory[id] { return known }
        let connection = try await connection(.work)
        let document: XMLNode
        do {
            document = try XMLNode(parsing: try await connection.xml(of: .uuid(id.rawValue), options: .inactive))
        } catch let error as LibvirtError {
            if error.code == .noDomain { return nil }
            throw Failure(error, "looking at domain \(id)")
        } catch {
            throw Failure(.hypervisor, "the XML of domain \(id) cannot be read: \(error)", isRetriable: true)
        }
        let entry = DomainDirectory.Entry(document, isOurs: DomainMetadata.isOurs(document))
        directory.learn(id, entry)
        return entry
    }

    /// The entry of a domain that is ours; `nil` when there is none of that uuid.
    /// - Throws: `.conflict` when it is another's.
    func own(_ id: InstanceID) async throws -> DomainDirectory.Entry? {
        guard let entry = try await entry(of: id) else { return nil }
        guard entry.isOurs else {
            throw Failure(.conflict, "domain \(entry.name) has the uuid \(id), but Apus did not make it")
        }
        return entry
    }

    /// Whether the domain runs and why; `nil` when it is gone.
    func status(of id: InstanceID) async throws -> DomainStatus? {
        let connection = try await connection(.work)
        do {
            return try await connection.status(of: .uuid(id.rawValue))
        } catch  where error.code == .noDomain {
            directory.forget(id)
            return nil
        } catch {
            throw Failure(error, "looking at domain \(id)")
        }
    }
}

extension DomainDirectory.Entry {
    init(_ document: XMLNode, isOurs: Bool) {
        var plugs: [String: NetworkBinding?] = [:]
        for interface in document.all("devices/interface") {
            guard let mac = interface.first("mac")?["address"]?.lowercased() else { continue }
            let source = interface.first("source")
            let binding: NetworkBinding? =
                switch interface["type"] {
                case "network": source?["network"].map { .libvirt($0) }
                case "bridge": source?["bridge"].map { .bridge($0) }
                default: nil
                }
            plugs.updateValue(binding, forKey: mac)
        }
        self.init(
            name: document.first("name")?.text ?? "", isOurs: isOurs, plugs: plugs,
            size: Self.definedSize(document),
            hasAgentChannel: document.all("devices/channel/target").contains {
                $0["name"]?.hasPrefix("org.qemu.guest_agent.") == true
            })
    }

    /// libvirt gives memory in KiB, whatever unit it was defined in.
    private static func definedSize(_ document: XMLNode) -> Resources? {
        guard let processors = document.first("vcpu").flatMap({ Int($0.text) }), (1...4_096).contains(processors),
            let memory = document.first("memory").flatMap({ Int($0.text) }), (1...(1 << 40)).contains(memory)
        else { return nil }
        return Resources(vcpus: processors, memoryMiB: (memory + 1_023) / 1_024, diskGiB: 0)
    }
}

extension DomainStatus {
    fileprivate var remark: String? {
        switch (state, reason) {
        case (.paused, .ioError):
            "the guest was halted by an I/O error of its disk, as when the host's file system is full"
        case (.paused, .watchdog): "the guest was halted by its watchdog"
        case (.paused, .crashed), (.crashed, _): "the guest's kernel has panicked"
        case (.shutOff, .crashed), (.shutOff, .failed): "the guest's process has died"
        default: nil
        }
    }
}

extension PowerState {
    init(_ status: DomainStatus?) {
        switch status?.state {
        case .running, .blocked, .shuttingDown: self = .running
        case .paused: self = .paused
        // QEMU died, or was killed.
        case .shutOff: self = status?.reason == .crashed ? .crashed : .shutdown
        case .crashed: self = .crashed
        case .suspendedByGuest: self = .suspended
        case .noState, .unknown, nil: self = .noState
        }
    }
}
