internal import Crypto
public import GuestHardware
public import HostTopology
public import Model
public import PCIDevices
internal import Synchronization
internal import Telemetry

/// A claim that a tracker has made and no journal holds yet. There is one of it, and whoever lets go of it without keeping
/// it, on whatever way out, has given the place back: between the tracker and the journal no claim can leak.
public struct ClaimPromise: ~Copyable, Sendable {
    public let claim: Claim
    private let tracker: ResourceTracker
    private var isKept = false

    fileprivate init(_ claim: Claim, of tracker: ResourceTracker) { (self.claim, self.tracker) = (claim, tracker) }

    /// The claim is recorded, and lives until its record goes.
    @discardableResult
    public consuming func keep() -> Claim {
        isKept = true
        return claim
    }

    deinit {
        if !isKept { tracker.release(claim) }
    }
}

/// The one place where a host's resources are promised and given back. Every method is one synchronous step.
///
/// The tracker is the memory, the journal's table `claims` the record: a claim is made inside the transaction that
/// records it, and released after the one that removes it.
public final class ResourceTracker: Sendable {
    private let ledger: Mutex<ResourceLedger>
    private let changed: @Sendable () -> Void
    /// The promises that the host could not keep when it was last measured.
    private let toldBroken = Mutex<[String]>([])
    private let gauge = Metrics.shared.gauge("agent_claimed", help: "What this host has promised to instances.")
    private let refusals = Metrics.shared.counter("agent_claims_refused_total", help: "Claims that did not fit.")

    /// `changed` is called after each claim and release; it must not block.
    public init(_ ledger: ResourceLedger, changed: @escaping @Sendable () -> Void = {}) {
        self.ledger = Mutex(ledger)
        self.changed = changed
        publish(ledger)
    }

    public var snapshot: ResourceLedger { ledger.withLock { $0 } }

    /// Reserves a place for a guest of this size, and one on the host's cells where `request` wants one, or says what is
    /// short. Never suspends, so check and reserve are one step.
    ///
    /// To be called where the journal holds no claim of the instance for this purpose: one that is still in memory then
    /// is on its way out, and makes room.
    ///
    /// - Returns: the claim, which is given back unless it is kept.
    public func claim(
        _ size: Resources, _ request: TopologyRequest? = nil, devices: [PCIRequest] = [], vgpus: Int = 0,
        for instance: InstanceID, purpose: Claim.Purpose = .residence
    ) throws(ClaimError) -> ClaimPromise {
        let id = ClaimID(makeUUID())
        let names = (0..<max(0, vgpus)).map { _ in makeUUID() }
        let outcome = ledger.withLock { ledger -> Result<(ResourceLedger, Claim), ClaimError> in
            Result { () throws(ClaimError) in
                var changed = ledger
                if purpose == .residence { changed.remove(instance) } else { changed.removeMove(of: instance) }
                let claim = try changed.add(
                    id, for: instance, size, request, devices: devices, vgpuNames: names, purpose: purpose)
                ledger = changed
                return (changed, claim)
            }
        }
        switch outcome {
        case .success((let now, let claim)):
            publish(now)
            changed()
            return ClaimPromise(claim, of: self)
        case .failure(let error):
            refusals.increment()
            throw error
        }
    }

    /// Gives back exactly this claim; nothing when the instance holds none, or another by now.
    public func release(_ claim: Claim) {
        let now = ledger.withLock { ledger in ledger.remove(claim) ? ledger : nil }
        guard let now else { return }
        publish(now)
        changed()
    }

    /// Makes the place of a move the one where the instance lives, and gives back the old one where it was here; nothing
    /// when the move has been dropped. To be called after the journal has recorded it.
    public func settle(_ move: Claim) {
        let now = ledger.withLock { ledger in ledger.settle(move) ? ledger : nil }
        guard let now else { return }
        publish(now)
        changed()
    }

    /// Replaces all claims by those that the journal holds; true when they were not the same.
    @discardableResult
    public func restore(_ claims: [Claim]) -> Bool {
        let (now, isOther) = ledger.withLock { ledger in
            let (before, orphans) = ((ledger.claims, ledger.moves), ledger.orphans)
            ledger = ResourceLedger(
                total: ledger.total, reserved: ledger.reserved, ratios: ledger.ratios, topology: ledger.topology,
                pci: ledger.pci, mediated: ledger.mediated, guestOverheadMiB: ledger.guestOverheadMiB, claims: claims)
            ledger.orphans = orphans
            return (ledger, before != (ledger.claims, ledger.moves))
        }
        guard isOther else { return false }
        publish(now)
        changed()
        return true
    }

    /// What the host has in all, measured anew. Claims stay, even where they no longer fit, which is told once.
    public func measured(_ total: Resources, _ topology: HostTopology?) {
        let broken = ledger.withLock { ledger in
            (ledger.total, ledger.topology) = (total, topology)
            return ledger.broken
        }
        let isNew = toldBroken.withLock { told in
            defer { told = broken }
            return told != broken
        }
        guard isNew, !broken.isEmpty else { return }
        Logger("agent").warning("more is promised than the host has", ["short": broken.joined(separator: "; ")])
    }

    /// What guests take that no record knows, looked at anew.
    public func found(orphans: Resources) {
        let isOther = ledger.withLock { ledger in
            defer { ledger.orphans = orphans }
            return ledger.orphans != orphans
        }
        if isOther { changed() }
    }

    /// The devices that guests may have, looked at anew. What somebody holds stays his, also when it is gone; it is told.
    public func found(_ devices: [PCIDevice]) {
        let (isOther, gone) = ledger.withLock { ledger in
            let inventory = PCIInventory(devices: devices, aliases: ledger.pci.aliases)
            let isOther = inventory != ledger.pci
            ledger.pci = inventory
            let there = Set(devices.map(\.address))
            return (isOther, ledger.heldDevices.map(\.address).filter { !there.contains($0) }.sorted())
        }
        guard isOther else { return }
        if !gone.isEmpty {
            Logger("agent").warning("devices that guests hold are gone", ["devices": gone.joined(separator: " ")])
        }
        changed()
    }

    /// What the host's devices can be shared into, looked at anew. The same holds for it.
    public func found(_ mediated: MediatedDeviceInventory) {
        let (isOther, gone) = ledger.withLock { ledger in
            let isOther = mediated != ledger.mediated
            ledger.mediated = mediated
            let there = Set(mediated.supplies.map(\.parentAddress))
            return (isOther, Set(ledger.heldMediatedDevices.map(\.parentAddress)).subtracting(there).sorted())
        }
        guard isOther else { return }
        if !gone.isEmpty {
            Logger("agent").warning(
                "devices that guests have shares of are gone", ["devices": gone.joined(separator: " ")])
        }
        changed()
    }

    private func publish(_ ledger: ResourceLedger) {
        gauge.set(Double(ledger.promised.vcpus), labels: [("resource", "vcpus")])
        gauge.set(Double(ledger.promised.memoryMiB), labels: [("resource", "memory_mib")])
        gauge.set(Double(ledger.promised.diskGiB), labels: [("resource", "disk_gib")])
    }
}
