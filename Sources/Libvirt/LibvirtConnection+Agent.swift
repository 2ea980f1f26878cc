internal import CLibvirt

// A guest's agent is a program of the guest's: it may be absent, silent or hostile. Every call here gives it
// `options.agentTimeout` to answer, in libvirt, so that it holds neither our thread nor the domain for longer.
extension LibvirtConnection {
    /// Sets a user's password.
    /// - Throws: `.agentUnresponsive` when no agent answers, `.operationTimeout` likewise from older libvirt versions.
    public func setPassword(
        _ reference: DomainReference, user: String, password: String
    ) async throws(LibvirtError) {
        try await askAgent(reference, "virDomainSetUserPassword") { domain throws(LibvirtError) in
            try refuseZero(in: user, "virDomainSetUserPassword")
            try refuseZero(in: password, "virDomainSetUserPassword")
            guard virDomainSetUserPassword(domain, user, password, 0) == 0 else {
                throw .last("virDomainSetUserPassword")
            }
        }
    }

    /// Asks the agent for the guest's time, in seconds since 1970: the smallest thing that proves that it answers.
    public func guestTime(_ reference: DomainReference) async throws(LibvirtError) -> Int64 {
        try await askAgent(reference, "virDomainGetTime") { domain throws(LibvirtError) in
            var seconds: Int64 = 0
            var nanoseconds: UInt32 = 0
            guard virDomainGetTime(domain, &seconds, &nanoseconds, 0) == 0 else { throw .last("virDomainGetTime") }
            return seconds
        }
    }

    /// Sets the guest's clock from its hardware clock, for after a pause.
    public func synchroniseClock(_ reference: DomainReference) async throws(LibvirtError) {
        try await askAgent(reference, "virDomainSetTime") { domain throws(LibvirtError) in
            guard virDomainSetTime(domain, 0, 0, VIR_DOMAIN_TIME_SYNC.rawValue) == 0 else {
                throw .last("virDomainSetTime")
            }
        }
    }

    private func askAgent<T: Sendable>(
        _ reference: DomainReference, _ name: String,
        _ body: @escaping @Sendable (virDomainPtr) throws(LibvirtError) -> T
    ) async throws(LibvirtError) -> T {
        let limit = max(1, Int32(clamping: options.agentTimeout.components.seconds))
        return try await call(name) { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            if virDomainAgentSetResponseTimeout(domain.pointer, limit, 0) < 0 {
                throw .last("virDomainAgentSetResponseTimeout")
            }
            return try body(domain.pointer)
        }
    }
}
