import Model
import RPC
import Testing

@testable import Compute

@Suite("Guests with a virtual TPM", .timeLimit(.minutes(2)))
struct VirtualTPMTests {
    @Test("are neither rescued, rebuilt nor shelved by their host, whoever asks", arguments: [true, false])
    func refused(byFlavor: Bool) async throws {
        let bench = try Bench()
        var instance = Instance.test()
        var image = ImageReference.test
        if byFlavor {
            instance.flavor.extraSpecs["hw:tpm_version"] = "2.0"
        } else {
            image.properties["hw_tpm_version"] = "2.0"
        }
        try await bench.run { [instance, image] agent in
            let built = try await agent.conductor.outcome(of: agent.build(instance, image: image))
            try #require(built.failure == nil)
            for command in [GuestCommand.rescue(CommandCase.material), .rebuild(CommandCase.material), .shelve(nil)] {
                let failure = await #expect(throws: Failure.self) {
                    _ = try await agent.operate(command, instance.id, generation: 2)
                }
                #expect(failure?.kind == .invalidParameters && failure?.message.contains("vTPM") == true)
            }
            #expect(try await agent.core.journal.fence(instance.id) == instance.fence)
            let stop = try await agent.operate(.stop, instance.id, generation: 2)
            #expect(try await agent.conductor.outcome(of: stop).failure == nil)
        }
    }
}
