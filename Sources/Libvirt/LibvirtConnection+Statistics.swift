internal import CLibvirt

extension LibvirtConnection {
    /// The figures of all domains that `filter` lets through, in one call that never waits for a busy domain: of such
    /// a one only the state is given.
    public func statistics(
        _ figures: StatisticsOptions = [.state, .cpu, .balloon], of filter: DomainFilter = []
    ) async throws(LibvirtError) -> [DomainStats] {
        try await call("virConnectGetAllDomainStats", deadline: options.statisticsDeadline) {
            (connection) throws(LibvirtError) in
            try StatisticsList(of: connection, figures, filter).decoded()
        }
    }
}

extension LibvirtConnection {
    /// The figures of one domain. Does not wait for a job that holds the domain: of such a one only the state is given.
    /// - Throws: `.noDomain`.
    public func statistics(
        of reference: DomainReference, _ figures: StatisticsOptions
    ) async throws(LibvirtError) -> DomainStats {
        try await call("virDomainListGetStats", deadline: options.statisticsDeadline) {
            (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            guard let only = try StatisticsList(of: domain.pointer, figures).decoded().first else {
                throw LibvirtError(.noDomain, call: "virDomainListGetStats", message: "the domain has no statistics")
            }
            return only
        }
    }
}

/// Owns what `virConnectGetAllDomainStats` returned, domain references included.
private struct StatisticsList: ~Copyable {
    private let records: UnsafeMutablePointer<virDomainStatsRecordPtr?>?
    private let count: Int

    init(of connection: virConnectPtr, _ figures: StatisticsOptions, _ filter: DomainFilter) throws(LibvirtError) {
        var found: UnsafeMutablePointer<virDomainStatsRecordPtr?>?
        let flags = filter.rawValue | VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT.rawValue
        let count = virConnectGetAllDomainStats(connection, figures.rawValue, &found, flags)
        guard count >= 0 else { throw .last("virConnectGetAllDomainStats") }
        records = found
        self.count = Int(count)
    }

    init(of domain: virDomainPtr, _ figures: StatisticsOptions) throws(LibvirtError) {
        var found: UnsafeMutablePointer<virDomainStatsRecordPtr?>?
        var domains: [virDomainPtr?] = [domain, nil]
        let flags = VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT.rawValue
        let count = virDomainListGetStats(&domains, figures.rawValue, &found, flags)
        guard count >= 0 else { throw .last("virDomainListGetStats") }
        records = found
        self.count = Int(count)
    }

    deinit { virDomainStatsRecordListFree(records) }

    func decoded() throws(LibvirtError) -> [DomainStats] {
        var all: [DomainStats] = []
        all.reserveCapacity(count)
        for record in UnsafeBufferPointer(start: records, count: count) {
            guard let record, let domain = record.pointee.dom else { continue }
            all.append(
                DomainStats(
                    identity: try DomainIdentity(reading: domain),
                    values: decodeParameters(record.pointee.params, count: Int(record.pointee.nparams))))
        }
        return all
    }
}
