import Model
import Testing

@Suite("What an instance admits")
struct AdmissionTests {
    private static func instance(
        _ vmState: VMState, _ taskState: TaskState? = nil, isLaunched: Bool = true, host: HostName? = HostName("node")
    ) -> Instance {
        let flavor = Flavor(id: FlavorID("1"), name: "tiny", vcpus: 1, memoryMiB: 64, rootGiB: 1)
        var instance = Instance(
            id: InstanceID("7f8e1d3a-0000-4000-8000-000000000001"), projectID: ProjectID("p"), userID: UserID("u"),
            name: "a", hostname: "a", flavor: flavor, imageID: ImageID("i"), reservationID: "r",
            createdAt: Timestamp(microseconds: 0))
        (instance.vmState, instance.taskState, instance.host) = (vmState, taskState, host)
        instance.launchedAt = isLaunched ? Timestamp(microseconds: 1) : nil
        return instance
    }

    @Test(
        "Each request begins the work that Nova's begins",
        arguments: [
            (.start, .stopped, .poweringOn), (.stop, .error, .poweringOff), (.pause, .active, .pausing),
            (.unpause, .paused, .unpausing), (.suspend, .active, .suspending), (.resume, .suspended, .resuming),
            (.rescue, .stopped, .rescuing), (.unrescue, .rescued, .unrescuing), (.rebuild, .error, .rebuilding),
            (.shelve, .suspended, .shelving), (.shelveOffload, .shelved, .shelvingOffloading),
            (.unshelve, .shelvedOffloaded, .unshelving), (.createImage, .paused, .imageSnapshotPending),
            (.createBackup, .stopped, .imageBackup), (.changePassword, .active, .updatingPassword),
            (.delete, .building, .deleting), (.forceDelete, .softDeleted, .deleting),
            (.softDelete, .active, .softDeleting), (.restore, .softDeleted, .restoring),
            (.reboot(.hard), .paused, .rebootingHard), (.lock, .building, nil), (.resetState, .deleted, nil),
        ] as [(InstanceRequest, VMState, TaskState?)])
    func accepted(request: InstanceRequest, from: VMState, begins: TaskState?) throws {
        #expect(try request.admitted(to: Self.instance(from), isAdmin: false) == begins)
    }

    @Test(
        "What is under way refuses all but deletes and those that may overtake it",
        arguments: [InstanceRequest.start, .pause, .rescue, .createImage, .rebuild, .attachInterface])
    func busy(request: InstanceRequest) {
        let state = InstanceAdmission(request).vmStates?.first ?? .active
        #expect(throws: InvalidState(request: request.name, .taskState(.imageUploading))) {
            _ = try request.admitted(to: Self.instance(state, .imageUploading), isAdmin: false)
        }
    }

    @Test("A hard reboot overtakes a soft one, and nothing else than the quick changes of power")
    func overtakes() throws {
        let hard = InstanceRequest.reboot(.hard)
        #expect(try hard.admitted(to: Self.instance(.active, .rebootStarted), isAdmin: false) == .rebootingHard)
        #expect(throws: InvalidState.self) {
            _ = try hard.admitted(to: Self.instance(.active, .rebuilding), isAdmin: false)
        }
    }

    @Test("A lock stops its owner's changes, not an administrator's and not a look")
    func locked() throws {
        var instance = Self.instance(.active)
        instance.lock = InstanceLock(holder: .owner)
        let locked = instance
        #expect(throws: InvalidState(request: "stop", .locked)) {
            _ = try InstanceRequest.stop.admitted(to: locked, isAdmin: false)
        }
        #expect(try InstanceRequest.stop.admitted(to: locked, isAdmin: true) == .poweringOff)
        #expect(try InstanceRequest.consoleOutput.admitted(to: locked, isAdmin: false) == nil)
        #expect(try InstanceRequest.unlock.admitted(to: locked, isAdmin: false) == nil)
    }

    @Test("What was never active or is on no host cannot be acted on, but deleted")
    func notThere() throws {
        let building = Self.instance(.error, isLaunched: false, host: nil)
        #expect(throws: InvalidState(request: "rebuild", .notLaunched)) {
            _ = try InstanceRequest.rebuild.admitted(to: building, isAdmin: false)
        }
        #expect(throws: InvalidState(request: "start", .noHost)) {
            _ = try InstanceRequest.start.admitted(to: Self.instance(.stopped, host: nil), isAdmin: false)
        }
        #expect(try InstanceRequest.delete.admitted(to: building, isAdmin: false) == .deleting)
    }

    @Test("A port's id is a uuid that only the instance and the MAC decide")
    func portID() {
        let nic = NetworkInterface(network: "default", macAddress: "52:54:00:AB:cd:01")
        let id = nic.portID(in: InstanceID("7f8e1d3a-0000-4000-8000-000000000001"))
        #expect(id == "7f8e1d3a-0000-4000-8000-525400abcd01")
    }
}
