/// What a host says of an instance at one moment.
public struct InstanceReport: Sendable, Hashable, Codable {
    /// The command that the host had last when it said so.
    public var fence: Fence
    /// Rises with everything that the host's agent says; `nil` from an agent that does not count outcomes.
    public var sequence: Int64?
    /// `nil` leaves what is recorded.
    public var vmState: VMState?
    public var powerState: PowerState
    /// `nil` leaves what is recorded.
    public var interfaces: [NetworkInterface]?
    /// What a person should know about the guest's state; becomes the instance's fault.
    public var notice: String?
    public var observedAt: Timestamp

    public init(
        fence: Fence, sequence: Int64?, vmState: VMState?, powerState: PowerState, interfaces: [NetworkInterface]?,
        notice: String? = nil, observedAt: Timestamp
    ) {
        (self.fence, self.sequence, self.vmState, self.powerState) = (fence, sequence, vmState, powerState)
        (self.interfaces, self.notice, self.observedAt) = (interfaces, notice, observedAt)
    }

    /// Whether the same host said this after `other`.
    public func isNewer(than other: InstanceReport) -> Bool {
        if let sequence, let earlier = other.sequence { return sequence > earlier }
        return observedAt > other.observedAt
    }
}

extension Instance {
    /// Whether a report with this fence may tell the newest that the instance's host knows.
    ///
    /// A request that never reached the host, because it was refused or the host was away, leaves the host with an older
    /// generation than the record's; a conductor that took a task over leaves it with a higher epoch.
    public func believes(_ reported: Fence) -> Bool {
        if reported.generation == fence.generation { return true }
        guard let hostFence else { return false }
        return reported >= hostFence && reported.generation < fence.generation
    }

    /// Writes down what the instance's host says of it. While something is under way it waits until that ends, and only
    /// the newest is kept.
    public mutating func take(_ report: InstanceReport) {
        guard believes(report.fence) else { return }
        if taskState != nil {
            if let kept = postponedReport, !report.isNewer(than: kept) { return }
            return postponedReport = report
        }
        postponedReport = nil
        // Whether a move is confirmed is not its host's to say; what the guest does shows by its power.
        if let vmState = report.vmState, self.vmState != .resized { self.vmState = vmState }
        powerState = report.powerState
        if let interfaces = report.interfaces { self.interfaces = interfaces }
        if let notice = report.notice {
            fault = InstanceFault(code: 500, message: notice, createdAt: report.observedAt)
        }
    }

    /// Forgets a report that the host made before its `outcome` of what is under way.
    public mutating func forgetPostponed(before outcome: InstanceReport) {
        guard let kept = postponedReport, !kept.isNewer(than: outcome) else { return }
        postponedReport = nil
    }

    /// Nothing is under way any more: what the host said meanwhile counts now.
    public mutating func settle() {
        taskState = nil
        guard let kept = postponedReport else { return }
        postponedReport = nil
        take(kept)
    }
}
