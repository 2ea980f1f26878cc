internal import Libvirt
public import Model

extension LibvirtDriver {
    public func setPassword(_ id: InstanceID, user: String, password: String) async throws {
        let entry = try await active(id, "given a password")
        guard entry.hasAgentChannel else {
            throw Failure(.conflict, "\(entry.name) has no guest agent: its image does not say hw_qemu_guest_agent=yes")
        }
        do {
            try await connection(.work).setPassword(.uuid(id.rawValue), user: user, password: password)
        } catch let error as LibvirtError {
            throw Self.agentFailure(error, entry.name)
        }
    }

    public func pingGuestAgent(_ id: InstanceID) async throws -> Bool {
        guard let entry = try await own(id) else { throw Self.noGuest(id) }
        guard entry.hasAgentChannel, try await status(of: id)?.state == .running else { return false }
        do {
            _ = try await connection(.work).guestTime(.uuid(id.rawValue))
            return true
        } catch let error as LibvirtError {
            let failure = Self.agentFailure(error, entry.name)
            guard failure.kind == .conflict || failure.kind == .timeout else { throw failure }
            return false
        }
    }

    /// No agent is the guest's state, one that does not answer in time a fault; libvirt has one code for both.
    static func agentFailure(_ error: LibvirtError, _ name: String) -> Failure {
        switch error.code {
        case .agentUnresponsive:
            let isAbsent = error.message.contains("not connected")
            let text = "the guest agent of \(name) does not answer: \(error.message.prefix(400))"
            return Failure(isAbsent ? .conflict : .timeout, text)
        case .operationTimeout: return Failure(.timeout, "the guest agent of \(name) does not answer in time")
        case .agentMissing, .operationInvalid, .noSupport, .argumentInvalid, .configUnsupported:
            return Failure(.conflict, "the guest agent of \(name): \(error.message.prefix(400))")
        default: return Failure(error, "asking the guest agent of \(name)")
        }
    }
}
