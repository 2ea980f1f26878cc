import Crypto
import Model
import RPC
import Testing

@testable import Compute

/// A command on a guest, where it begins, and what it promises; the tests of all operations go through this table.
struct CommandCase: Sendable, CustomTestStringConvertible {
    let command: GuestCommand
    let kind: OperationKind
    /// What brings a built guest to where the command begins.
    let before: [GuestCommand]
    let vmState: VMState
    let powerState: PowerState
    /// The driver's calls that it makes, without looks.
    let calls: [DriverCall]
    /// What else is to be seen on the host.
    let effect: @Sendable (FakeHost.State, InstanceID) -> Bool

    var testDescription: String { (before.map(\.name) + [command.name]).joined(separator: ", ") }

    init(
        command: GuestCommand, before: [GuestCommand] = [], vmState: VMState, powerState: PowerState,
        calls: [DriverCall], effect: @escaping @Sendable (FakeHost.State, InstanceID) -> Bool = { _, _ in true }
    ) {
        guard let kind = OperationKind(command) else { preconditionFailure("every command of this release has a kind") }
        (self.command, self.kind, self.before, self.calls) = (command, kind, before, calls)
        (self.vmState, self.powerState, self.effect) = (vmState, powerState, effect)
    }

    static let password = "n3w-s3cret"
    static let material = GuestMaterial(image: .other, adminPassword: password)
    static let mac = "52:54:00:00:00:11"

    static let all: [CommandCase] = power + memory + disks + copies + rest

    private static let power = [
        CommandCase(
            command: .start, before: [.stop], vmState: .active, powerState: .running, calls: [.define, .powerOn],
            effect: { $0.domains[$1]?.starts == 2 }),
        CommandCase(command: .stop, vmState: .stopped, powerState: .shutdown, calls: [.powerOff]),
        CommandCase(
            command: .softReboot, vmState: .active, powerState: .running, calls: [.softReboot],
            effect: { $0.domains[$1]?.starts == 2 }),
        CommandCase(
            command: .hardReboot, vmState: .active, powerState: .running,
            calls: [.powerOff, .discardSavedMemory, .define, .powerOn], effect: { $0.domains[$1]?.starts == 2 }),
        CommandCase(
            command: .hardReboot, before: [.suspend], vmState: .active, powerState: .running,
            calls: [.powerOff, .discardSavedMemory, .define, .powerOn], effect: { $0.domains[$1]?.starts == 2 }),
        CommandCase(
            command: .hardReboot, before: [.pause], vmState: .active, powerState: .running,
            calls: [.powerOff, .discardSavedMemory, .define, .powerOn], effect: { $0.domains[$1]?.starts == 2 }),
        CommandCase(command: .softDelete, vmState: .softDeleted, powerState: .shutdown, calls: [.powerOff]),
        CommandCase(
            command: .restore, before: [.softDelete], vmState: .active, powerState: .running,
            calls: [.define, .powerOn]),
    ]

    private static let memory = [
        CommandCase(command: .pause, vmState: .paused, powerState: .paused, calls: [.pause]),
        CommandCase(
            command: .unpause, before: [.pause], vmState: .active, powerState: .running, calls: [.unpause],
            effect: { $0.domains[$1]?.starts == 1 }),
        CommandCase(
            command: .suspend, vmState: .suspended, powerState: .shutdown, calls: [.suspend],
            effect: { $0.domains[$1]?.hasSavedMemory == true }),
        CommandCase(
            command: .resume, before: [.suspend], vmState: .active, powerState: .running, calls: [.resume],
            effect: { $0.domains[$1]?.starts == 1 && $0.domains[$1]?.hasSavedMemory == false }),
    ]

    private static let disks = [
        CommandCase(
            command: .rescue(material), vmState: .rescued, powerState: .running,
            calls: [
                .prepareImage, .powerOff, .removeRescueDisks, .createRescueDisks, .writeConfigDrive, .define, .powerOn,
            ],
            effect: { $0.rescueDisks[$1] == password && $0.domains[$1]?.rescueImage == material.image.id }),
        CommandCase(
            command: .unrescue, before: [.rescue(material)], vmState: .active, powerState: .running,
            calls: [.powerOff, .define, .removeRescueDisks, .powerOn],
            effect: { $0.rescueDisks[$1] == nil && $0.domains[$1]?.rescueImage == nil }),
        CommandCase(
            command: .rebuild(material), vmState: .active, powerState: .running,
            calls: [
                .prepareImage, .powerOff, .undefine, .removeDisks, .createDisks, .writeConfigDrive, .define, .powerOn,
            ],
            effect: { $0.configDrives[$1] == password && $0.domains[$1]?.image == material.image.id }),
        CommandCase(
            command: .rebuild(material), before: [.stop], vmState: .stopped, powerState: .shutdown,
            calls: [.prepareImage, .powerOff, .undefine, .removeDisks, .createDisks, .writeConfigDrive, .define],
            effect: { $0.configDrives[$1] == password && $0.domains[$1]?.image == material.image.id }),
        CommandCase(
            command: .shelve(nil), vmState: .shelved, powerState: .shutdown, calls: [.powerOff, .discardSavedMemory]),
        CommandCase(
            command: .shelve(nil), before: [.suspend], vmState: .shelved, powerState: .shutdown,
            calls: [.powerOff, .discardSavedMemory], effect: { $0.domains[$1]?.hasSavedMemory == false }),
    ]

    private static let copies = [
        CommandCase(
            command: .snapshot(order), vmState: .active, powerState: .running,
            calls: [.takeSnapshot, .readSnapshot, .removeSnapshot], effect: { state, _ in state.snapshots.isEmpty }),
        CommandCase(
            command: .shelve(order), vmState: .shelved, powerState: .shutdown,
            calls: [.powerOff, .discardSavedMemory, .takeSnapshot, .readSnapshot, .removeSnapshot],
            effect: { state, _ in state.snapshots.isEmpty }),
    ]

    private static let order = SnapshotOrder(image: ImageID(makeUUID()), format: .qcow2, quiesce: .no)

    private static let rest = [
        CommandCase(
            command: .setPassword(password), vmState: .active, powerState: .running,
            calls: [.pingGuestAgent, .setPassword],
            effect: { $0.domains[$1]?.passwords == ["root": password] }),
        CommandCase(
            command: .attachInterface(InterfaceOrder(tag: "back")), vmState: .active, powerState: .running,
            calls: [.plugInterface, .attachInterface],
            effect: { $0.domains[$1]?.plugged.count == 2 && $0.networks[$1]?.last?.tag == "back" }),
        CommandCase(
            command: .attachInterface(InterfaceOrder()), before: [.stop], vmState: .stopped, powerState: .shutdown,
            calls: [.plugInterface, .attachInterface], effect: { $0.domains[$1]?.interfaces.count == 2 }),
        CommandCase(
            command: .detachInterface(mac), vmState: .active, powerState: .running,
            calls: [.detachInterface, .unplugInterface],
            effect: { $0.domains[$1]?.plugged == [] && $0.networks[$1] == nil }),
    ]
}

extension ImageReference {
    /// The image that guests are rescued with and rebuilt from.
    static let other = ImageReference(
        id: ImageID("99999999-2222-3333-4444-555555555555"), format: .qcow2,
        sizeBytes: Int64(FakeConductor.image.count), virtualSizeBytes: 1 << 20,
        sha512: String(repeating: "cd", count: 64))
}

extension AgentHandle {
    /// Builds the case's guest and brings it to where the command begins; gives the generation for the command.
    func begin(_ test: CommandCase, _ instance: Instance) async throws -> Int64 {
        try await built(instance)
        var generation: Int64 = 1
        for command in test.before {
            generation += 1
            let outcome = try await conductor.outcome(of: operate(command, instance.id, generation: generation))
            try #require(outcome.failure == nil)
        }
        try await settled()
        return generation + 1
    }

    /// Fails unless the record says what the host has: nothing of a command done by half.
    func agrees(
        _ id: InstanceID, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let guest = try #require(try await core.journal.guest(id), comment, sourceLocation: sourceLocation)
        let host = driver.host.state
        let domain = host.domains[id]
        let specification = guest.specification
        let power = domain?.powerState ?? .noState
        #expect(guest.powerState == power, comment, sourceLocation: sourceLocation)
        let isOn = power == .running || power == .paused
        switch guest.vmState {
        case .active: #expect(power == .running, comment, sourceLocation: sourceLocation)
        case .rescued:
            #expect(power == .running && specification.rescueImage != nil, comment, sourceLocation: sourceLocation)
        case .paused: #expect(power == .paused, comment, sourceLocation: sourceLocation)
        case .suspended:
            #expect(domain?.hasSavedMemory == true && !isOn, comment, sourceLocation: sourceLocation)
        case .error: break
        default: #expect(!isOn, comment, sourceLocation: sourceLocation)
        }
        if let domain {
            #expect(domain.rescueImage == specification.rescueImage?.id, comment, sourceLocation: sourceLocation)
            #expect(
                domain.interfaces == Set(specification.interfaces.map(\.macAddress)), comment,
                sourceLocation: sourceLocation)
            #expect(domain.image == specification.image.id, comment, sourceLocation: sourceLocation)
        }
        // What could not be removed goes with the instance, or before the next rescue.
        #expect(
            (host.rescueDisks[id] != nil) == (specification.rescueImage != nil) || guest.vmState == .error, comment,
            sourceLocation: sourceLocation)
        #expect(
            specification.interfaces.allSatisfy { (host.networks[id] ?? []).contains($0) }, comment,
            sourceLocation: sourceLocation)
        let claims = try await core.journal.claims().filter { $0.instance == id }
        #expect(claims.count == 1, comment, sourceLocation: sourceLocation)
    }
}
