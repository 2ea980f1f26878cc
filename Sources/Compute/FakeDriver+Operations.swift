public import Model

// What can be done to a guest that is there.
extension FakeDriver {
    public func pause(_ id: InstanceID) async throws {
        try await onDomain(.pause, id) { _, domain in
            guard domain.isOn else { throw Failure(.conflict, "domain \(domain.name) is off") }
            domain.powerState = .paused
        }
    }

    public func unpause(_ id: InstanceID) async throws {
        try await onDomain(.unpause, id) { _, domain in
            guard domain.isOn else { throw Failure(.conflict, "domain \(domain.name) is off") }
            domain.powerState = .running
        }
    }

    public func suspend(_ id: InstanceID) async throws {
        try await onDomain(.suspend, id) { _, domain in
            guard domain.isOn else {
                guard domain.hasSavedMemory else { throw Failure(.conflict, "domain \(domain.name) is off") }
                return
            }
            domain.powerState = .shutdown
            domain.plugged = []
            domain.hasSavedMemory = true
        }
    }

    public func resume(_ id: InstanceID) async throws {
        try await onDomain(.resume, id) { _, domain in
            guard !domain.isOn else { return }
            guard domain.hasSavedMemory else {
                throw Failure(.notFound, "there is no saved memory of domain \(domain.name)")
            }
            domain.hasSavedMemory = false
            domain.powerState = .running
            domain.plugged = domain.interfaces
        }
    }

    public func discardSavedMemory(_ id: InstanceID) async throws {
        try await onDomain(.discardSavedMemory, id) { _, domain in domain.hasSavedMemory = false }
    }

    public func createRescueDisks(_ guest: GuestSpecification) async throws {
        let id = guest.instance.id
        try await perform(.createRescueDisks, id) { state in
            guard let image = guest.rescueImage, state.images.contains(image.sha512) else {
                throw Failure(.storage, "the rescue image of instance \(id) is not in the cache")
            }
            guard state.disks.contains(id) else { throw Failure(.storage, "instance \(id) has no folder") }
            if state.rescueDisks[id] == nil { state.rescueDisks.updateValue(nil, forKey: id) }
        }
    }

    public func removeRescueDisks(_ id: InstanceID) async throws {
        try await perform(.removeRescueDisks, id) { state in
            if let domain = state.domains[id], domain.isOurs, domain.isOn {
                throw Failure(.storage, "the disks of \(domain.name) are in use")
            }
            state.rescueDisks.removeValue(forKey: id)
        }
    }

    public func setPassword(_ id: InstanceID, user: String, password: String) async throws {
        try await onDomain(.setPassword, id) { _, domain in
            guard domain.powerState == .running, domain.hasAgent else {
                throw Failure(.conflict, "domain \(domain.name) has no guest agent that answers")
            }
            domain.passwords[user] = password
        }
    }

    public func pingGuestAgent(_ id: InstanceID) async throws -> Bool {
        try await onDomain(.pingGuestAgent, id) { _, domain in domain.powerState == .running && domain.hasAgent }
    }

    public func injectNMI(_ id: InstanceID) async throws {
        try await onDomain(.injectNMI, id) { _, domain in
            guard domain.isOn else { throw Failure(.conflict, "domain \(domain.name) is off") }
            domain.interrupts += 1
        }
    }

    public func diagnostics(_ id: InstanceID) async throws -> GuestDiagnostics {
        try await onDomain(.diagnostics, id) { state, domain in
            guard domain.isOn else { throw Failure(.conflict, "domain \(domain.name) is off") }
            var disk = GuestDiagnostics.Disk(device: "vda")
            disk.readBytes = 4_096
            return GuestDiagnostics(
                powerState: domain.powerState, hypervisor: "fake", uptimeSeconds: nil,
                hasConfigDrive: state.configDrives[id] != nil, processors: [.init(id: 0, timeNanoseconds: 1_000)],
                interfaces: domain.plugged.sorted().map { .init(macAddress: $0) }, disks: [disk],
                memoryMaximumMiB: 512, memoryUsedMiB: nil)
        }
    }

    // MARK: NICs

    public func plugInterface(
        _ guest: GuestSpecification, key: String, ipv4Address: String?, tag: String?
    ) async throws -> NetworkInterface {
        let id = guest.instance.id
        return try await perform(.plugInterface, id) { state in
            if let mac = state.keys[key], let known = state.networks[id]?.first(where: { $0.macAddress == mac }) {
                return known
            }
            var made = state.makeInterface()
            if let ipv4Address {
                guard !state.networks.values.joined().contains(where: { $0.ipv4Address == ipv4Address }) else {
                    throw Failure(.conflict, "the address \(ipv4Address) is taken")
                }
                made.ipv4Address = ipv4Address
            }
            made.tag = tag
            state.keys[key] = made.macAddress
            state.networks[id, default: []].append(made)
            return made
        }
    }

    public func attachInterface(_ interface: NetworkInterface, to guest: GuestSpecification) async throws {
        try await onDomain(.attachInterface, guest.instance.id) { _, domain in
            domain.interfaces.insert(interface.macAddress)
            if domain.isOn { domain.plugged.insert(interface.macAddress) }
        }
    }

    public func detachInterface(_ interface: NetworkInterface, from guest: GuestSpecification) async throws {
        try await onDomain(.detachInterface, guest.instance.id) { _, domain in
            domain.interfaces.remove(interface.macAddress)
            domain.plugged.remove(interface.macAddress)
        }
    }

    public func unplugInterface(_ interface: NetworkInterface, of id: InstanceID) async throws {
        try await perform(.unplugInterface, id) { state in
            state.networks[id]?.removeAll { $0.macAddress == interface.macAddress }
            if state.networks[id]?.isEmpty == true { state.networks[id] = nil }
        }
    }
}

extension FakeHost.Domain {
    var isOn: Bool { powerState != .shutdown && powerState != .crashed }
}

extension FakeHost.State {
    mutating func makeInterface() -> NetworkInterface {
        lastAddress = (lastAddress + 1) % 240
        let number = 16 + lastAddress
        return NetworkInterface(
            network: "fake", macAddress: "52:54:00:00:00:\(String(number, radix: 16))",
            ipv4Address: "203.0.113.\(number)")
    }
}
