internal import Model
internal import RPC
internal import Tasks

/// Reserves what one more NIC needs.
struct PlugInterface: GuestStep {
    let name = "plug_interface"
    let deadline = Duration.seconds(60)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard case .attachInterface(let order) = state.command, let key = state.key else {
            throw Failure(.internalError, "the operation has no order for a NIC")
        }
        let guest = try await tools.specification(state.instanceID)
        state.interface = try await tools.driver.plugInterface(
            guest, key: key, ipv4Address: order.ipv4Address, tag: order.tag)
        return .next
    }

    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        guard case .attachInterface(let order) = state.command, let key = state.key else { return }
        if state.interface == nil {
            // The answer was lost: asked for once more, so that it can be given back.
            let guest = try await tools.specification(state.instanceID)
            do {
                state.interface = try await tools.driver.plugInterface(
                    guest, key: key, ipv4Address: order.ipv4Address, tag: order.tag)
            } catch {
                // Nothing was reserved, or what was is found by the comparison at the next start.
                return
            }
        }
        guard let interface = state.interface else { return }
        try await tools.driver.unplugInterface(interface, of: state.instanceID)
    }
}

/// Adds a reserved NIC to the guest and to its record.
struct AttachInterface: GuestStep {
    let name = "attach_interface"
    let deadline = Duration.seconds(120)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard let interface = state.interface else { throw Failure(.internalError, "no NIC was reserved") }
        let changed = try await tools.change(state.instanceID) { $0.add(interface) }
        try await tools.driver.attachInterface(interface, to: changed)
        return .next
    }

    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        guard let interface = state.interface else { return }
        let changed = try await tools.change(state.instanceID) { $0.remove(interface) }
        try await tools.driver.detachInterface(interface, from: changed)
    }
}

/// Removes a NIC from the guest.
struct DetachInterface: GuestStep {
    let name = "detach_interface"
    // The driver ends earlier by itself, by the host's options.
    let deadline = Duration.seconds(3_600)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard case .detachInterface(let mac) = state.command else {
            throw Failure(.internalError, "the operation names no NIC")
        }
        let guest = try await tools.specification(state.instanceID)
        guard let interface = guest.interfaces.first(where: { $0.macAddress == mac }) else {
            throw Failure(.notFound, "instance \(state.instanceID) has no NIC \(mac)")
        }
        state.interface = interface
        try await tools.driver.detachInterface(interface, from: guest)
        return .next
    }

    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        guard let interface = state.interface else { return }
        let guest = try await tools.specification(state.instanceID)
        // Off the record means that it is gone for good; what it had reserved goes with the instance at the latest.
        guard guest.interfaces.contains(where: { $0.macAddress == interface.macAddress }) else { return }
        try await tools.driver.attachInterface(interface, to: guest)
    }
}

/// Removes the NIC from the record, and gives back what it had reserved.
struct UnplugInterface: GuestStep {
    let name = "unplug_interface"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard let interface = state.interface else { return .next }
        try await tools.change(state.instanceID) { $0.remove(interface) }
        try await tools.driver.unplugInterface(interface, of: state.instanceID)
        return .next
    }
}

extension GuestSpecification {
    fileprivate mutating func add(_ interface: NetworkInterface) {
        guard !interfaces.contains(where: { $0.macAddress == interface.macAddress }) else { return }
        interfaces.append(interface)
    }

    fileprivate mutating func remove(_ interface: NetworkInterface) {
        interfaces.removeAll { $0.macAddress == interface.macAddress }
    }
}
