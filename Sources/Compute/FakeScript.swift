internal import Model

/// The calls of a driver, by name, for scripting and counting.
public enum DriverCall: String, Sendable, Hashable, CaseIterable {
    case start, capacity, hostMetrics, guestBridges, guestOnBridge, hostDevices, guests, observe
    case mediatedDeviceParents, createMediatedDevices, removeMediatedDevices
    case prepareImage, plugNetwork, unplugNetwork, createDisks, removeDisks, writeConfigDrive
    case tidyImageCache, limitConsoleLogs
    case define, powerOn, powerOff, softReboot, undefine, consoleLog
    case pause, unpause, suspend, resume, discardSavedMemory, createRescueDisks, removeRescueDisks
    case setPassword, pingGuestAgent, plugInterface, attachInterface, detachInterface, unplugInterface
    case injectNMI, diagnostics
    case takeSnapshot, readSnapshot, removeSnapshot, snapshots
    case setAside, bringBack, removeSetAside, listSetAside, setAsideFiles, readSetAside, takeOverDisks, adoptNetwork
    case removeTakenOver, leaveNetwork, seesDisks, beginTakingIn
    case offerGuest, withdrawOffer, receiveGuest, sendGuest, guestLeaves, sendEnds, forceGuest, goOn, departure
    case hasArrived
}

/// Where in a call a `FakeDriver` is.
public enum DriverCallPhase: String, Sendable, Hashable {
    /// Nothing has happened yet.
    case before
    /// The effect is there, the caller does not know yet.
    case after
}

/// What a `FakeDriver` is told to do besides working: failures by call and count, calls that hang.
struct FakeScript: Sendable {
    struct Rule: Sendable {
        let failure: Failure
        /// Which calls fail, counted from 1 at the driver's birth.
        let calls: ClosedRange<Int>
        /// Whether the effect takes place before the failure is thrown.
        let isAfterEffect: Bool
    }

    var rules: [DriverCall: [Rule]] = [:]
    var counts: [DriverCall: Int] = [:]
    var held: Set<DriverCall> = []
    var waiters: [DriverCall: [Int: CheckedContinuation<Void, Never>]] = [:]
    var arrivals: [DriverCall: [CheckedContinuation<Void, Never>]] = [:]
    var nextWaiter = 0

    /// Counts a call and gives the failure that it shall meet.
    mutating func begin(_ call: DriverCall) -> Rule? {
        let count = counts[call, default: 0] + 1
        counts[call] = count
        return rules[call]?.first { $0.calls.contains(count) }
    }
}
