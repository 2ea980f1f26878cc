import ComputeAPI
import Database
import HTTP
import Model
import Testing

@Suite("Who has asked for an action")
struct RequesterTests {
    @Test(
        "An action bears the name of the user that asked for it, whosever the server is, in the record and in the answer",
        arguments: [
            ("p1/member", "u-p1", "p1"), ("boss/admin", "u-boss", "boss"),
        ])
    func users(token: String, user: String, project: String) async throws {
        let cloud = try await ComputeFixture(
            settings: APISettings(quotas: QuotaLimits(instances: -1, cores: -1), operationPatience: .zero))
        for (body, from, kind) in [
            (["os-stop": .null], .active, .stop), (["os-start": .null], .stopped, .start),
            (["reboot": ["type": "HARD"]], .active, .reboot), (["pause": .null], .active, .pause),
            (["suspend": .null], .active, .suspend), (["lock": .null], .active, .lock),
            (["shelve": .null], .active, .shelve), (["rescue": .null], .active, .rescue),
            (["createImage": ["name": "s"]], .active, .createImage), (["forceDelete": .null], .active, .delete),
            (["rebuild": ["imageRef": .string(ComputeFixture.image)]], .active, .rebuild),
        ] as [(JSON, VMState, InstanceActionKind)] {
            let id = try await cloud.makeActive(as: "p1/member")
            try await cloud.settle(id, from)
            let reply = await cloud.send(.post, "servers/\(id)/action", as: token, at: "2.72", body)
            #expect((200..<300).contains(reply.status), "\(kind): \(reply.status) \(reply.json)")
            let actions = try await cloud.database.actions.list(InstanceID(id))
            let asked = try #require(actions.first { $0.kind == kind }, "\(kind) is not on record")
            #expect(asked.userID == UserID(user) && asked.projectID == ProjectID(project), "\(kind)")
            #expect(actions.first { $0.kind == .create }?.userID == UserID("u-p1"))
            let shown = await cloud.send(
                .get, "servers/\(id)/os-instance-actions/\(asked.requestID.rawValue)", as: "boss/admin", at: "2.72")
            #expect(shown.json["instanceAction"]?["user_id"]?.text == user, "\(kind): \(shown.json)")
            #expect(shown.json["instanceAction"]?["project_id"]?.text == project)
        }
    }
}
