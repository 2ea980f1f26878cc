import Database
import HTTP
import Model
import Testing

@Suite("Servers with a virtual TPM")
struct VirtualTPMTests {
    /// What would part the guest's disk from its TPM's state.
    private static let refused: [(body: JSON, name: String)] = [
        (["rescue": .null], "rescue"), (["rebuild": ["imageRef": .string(ComputeFixture.image)]], "rebuild"),
        (["shelve": .null], "shelve"),
    ]

    @Test(
        "Rescue, rebuild and shelve are 400 and change nothing, whether the flavor or the image asks for the TPM",
        arguments: [true, false])
    func refusals(byFlavor: Bool) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        _ = try await cloud.database.instances.update(InstanceID(id), now: ComputeFixture.start) { instance in
            if byFlavor {
                instance.flavor.extraSpecs["hw:tpm_version"] = "2.0"
            } else {
                instance.imageProperties = ["hw_tpm_version": "2.0"]
            }
        }
        let before = try await cloud.instance(id)
        for (body, name) in Self.refused {
            let reply = await cloud.send(.post, "servers/\(id)/action", body)
            #expect(reply.status == 400)
            #expect(reply.message == "Operation '\(name)' not supported for vTPM-enabled instance (\(id)).")
        }
        #expect(try await cloud.instance(id) == before)
        #expect(await cloud.send(.post, "servers/\(id)/action", ["os-stop": .null]).status == 202)
    }

    @Test("A server whose record does not say what its image was is asked for by the image itself")
    func oldRecord() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        _ = try await cloud.database.instances.update(InstanceID(id), now: ComputeFixture.start) {
            $0.imageProperties = nil
        }
        #expect(await cloud.send(.post, "servers/\(id)/action", ["shelve": .null]).status == 202)
    }

    @Test("In the wrong state the answer is 409, as for any server")
    func state() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        try await cloud.settle(id, .paused, power: .paused)
        _ = try await cloud.database.instances.update(InstanceID(id), now: ComputeFixture.start) {
            $0.flavor.extraSpecs["hw:tpm_version"] = "2.0"
        }
        #expect(await cloud.send(.post, "servers/\(id)/action", ["rescue": .null]).status == 409)
    }
}
