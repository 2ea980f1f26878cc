import Model
import Testing

@Suite("What hosts say of instances")
struct InstanceReportTests {
    private static func instance(_ taskState: TaskState? = nil) -> Instance {
        var instance = Instance(
            id: InstanceID("i"), projectID: ProjectID("p"), userID: UserID("u"), name: "n", hostname: "n",
            flavor: Flavor(id: FlavorID("f"), name: "f", vcpus: 1, memoryMiB: 64, rootGiB: 1), imageID: ImageID("m"),
            reservationID: "r", createdAt: Timestamp(seconds: 1))
        (instance.vmState, instance.taskState, instance.powerState) = (.active, taskState, .running)
        instance.fence = Fence(generation: 5, epoch: 0)
        instance.hostFence = Fence(generation: 3, epoch: 1)
        return instance
    }

    private static func report(
        _ sequence: Int64?, _ vmState: VMState, generation: Int64 = 5, epoch: Int64 = 0, at seconds: Int64 = 10
    ) -> InstanceReport {
        InstanceReport(
            fence: Fence(generation: generation, epoch: epoch), sequence: sequence, vmState: vmState,
            powerState: .shutdown, interfaces: nil, observedAt: Timestamp(seconds: seconds))
    }

    @Test(
        "A fence is believed from the host's last command on, up to the record's generation whatever the epoch",
        arguments: [(2, 9, false), (3, 0, false), (3, 1, true), (4, 0, true), (5, 7, true), (6, 0, false)])
    func believes(generation: Int64, epoch: Int64, expected: Bool) {
        #expect(Self.instance().believes(Fence(generation: generation, epoch: epoch)) == expected)
    }

    @Test("What is said during an operation waits for its end, the newest of it")
    func newest() {
        var instance = Self.instance(.pausing)
        for (sequence, state) in [(7, VMState.stopped), (9, .paused), (8, .active)] as [(Int64, VMState)] {
            instance.take(Self.report(sequence, state))
        }
        #expect(instance.vmState == .active && instance.powerState == .running)
        instance.settle()
        #expect(instance.vmState == .paused && instance.powerState == .shutdown && instance.taskState == nil)
        #expect(instance.postponedReport == nil)
    }

    @Test(
        "What was said before the operation's outcome does not count after it",
        arguments: [(6, nil, VMState.active), (8, nil, .stopped), (6, 9, .active), (nil, 11, .stopped)]
            as [(Int64?, Int64?, VMState)])
    func outcome(sequence: Int64?, second: Int64?, expected: VMState) {
        var instance = Self.instance(.pausing)
        instance.take(Self.report(sequence, .stopped, at: second ?? 10))
        instance.forgetPostponed(before: Self.report(sequence == nil ? nil : 7, .active, at: 10))
        instance.settle()
        #expect(instance.vmState == expected)
    }
}
