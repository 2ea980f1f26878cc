import ComputeAPI
import Database
import HTTP
import Images
import Model
import RPC
import Tasks
import Testing

@Suite("Rescuing, rebuilding, locking and deleting softly")
struct GuestChangeTests {
    private func command(_ cloud: ComputeFixture, _ id: String) async throws -> GuestCommand {
        let tasks = try await cloud.database.tasks.list(instance: InstanceID(id), unfinishedOnly: true, limit: 10)
        let row = try #require(tasks.first { [TaskKind.guest, TaskKind.rebuild].contains($0.kind) })
        return try TaskEngine.state(GuestTaskState.self, of: row).command
    }

    @Test("A rescue boots the image that is named, else the server's own, with a password")
    func rescue() async throws {
        let cloud = try await ComputeFixture()
        for (argument, password) in [(JSON.null, nil), (["adminPass": "s3cret"], "s3cret")] as [(JSON, String?)] {
            let id = try await cloud.makeActive()
            let reply = await cloud.send(.post, "servers/\(id)/action", ["rescue": argument])
            #expect(reply.status == 200)
            let told = try #require(reply.json["adminPass"]?.text)
            #expect(password == nil ? told.count == 12 : told == password)
            guard case .rescue(let material) = try await command(cloud, id) else { throw Failure(.internalError, "") }
            #expect(material.image.id == ImageID(ComputeFixture.image) && material.adminPassword == told)
            let instance = try #require(try await cloud.instance(id))
            #expect(instance.taskState == .rescuing && instance.previousVMState == .active)
        }
    }

    @Test("A rescue that names no image boots the operator's, which others need not see; one that cannot rescue is 400")
    func rescueImage() async throws {
        let common = "aaaaaaaa-2222-4222-8222-222222222222"
        let cloud = try await ComputeFixture(
            settings: APISettings(operationPatience: .zero, rescueImage: ImageID(common)))
        let id = try await cloud.makeActive()
        #expect(await cloud.send(.post, "servers/\(id)/action", ["rescue": .null]).status == 409)
        func insert(_ id: String, _ properties: [String: String]) async throws {
            try await cloud.images.insert(
                ImageRecord(
                    id: ImageID(id), name: "rescue", status: .active, visibility: .private, owner: ProjectID("ops"),
                    diskFormat: .qcow2, containerFormat: "bare", sizeBytes: 1, virtualSizeBytes: 1 << 20, checksum: "c",
                    sha512: "s", properties: properties, createdAt: ComputeFixture.start))
        }
        try await insert(common, ["hw_rescue_device": "cdrom"])
        #expect(await cloud.send(.post, "servers/\(id)/action", ["rescue": .null]).status == 200)
        guard case .rescue(let material) = try await command(cloud, id) else { throw Failure(.internalError, "") }
        #expect(material.image.id == ImageID(common))
        #expect(material.image.properties["hw_rescue_device"] == "cdrom")
        let bad = "aaaaaaaa-3333-4333-8333-333333333333"
        try await insert(bad, ["hw_rescue_device": "cdrom", "hw_rescue_bus": "virtio"])
        try await cloud.settle(id)
        let reply = await cloud.send(
            .post, "servers/\(id)/action", as: "ops/admin", ["rescue": ["rescue_image_ref": .string(bad)]])
        #expect(reply.status == 400 && reply.message.contains("hw_rescue_bus (image property) = 'virtio'"))
    }

    @Test(
        "A rescue from what is no usable image is 400, and nothing changes",
        arguments: [
            #"{"rescue":{"rescue_image_ref":"tiny"}}"#, #"{"rescue":{"adminPass":7}}"#, #"{"rescue":{"x":"y"}}"#,
            #"{"rescue":{"rescue_image_ref":"bbbbbbbb-1111-4111-8111-111111111111"}}"#,
        ])
    func badRescue(body: String) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let before = try await cloud.instance(id)
        #expect(await cloud.send(.post, "servers/\(id)/action", raw: body).status == 400)
        #expect(try await cloud.instance(id) == before)
    }

    @Test("A rebuild writes what it is told into the record, and answers the server as each version shows it")
    func rebuild() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive(["metadata": ["old": "1"]])
        let body: [String: JSON] = [
            "imageRef": .string(ComputeFixture.image), "name": "new", "metadata": ["a": "b"], "adminPass": "pw",
            "accessIPv4": "203.0.113.4", "accessIPv6": "2001:db8::4", "OS-DCF:diskConfig": "AUTO",
            "preserve_ephemeral": false,
            "personality": [["path": "/etc/motd", "contents": "aGk="]],
        ]
        let reply = await cloud.send(.post, "servers/\(id)/action", ["rebuild": .object(body)])
        #expect(reply.status == 202)
        #expect(reply.response.headers["Location"]?.hasSuffix("/v2.1/servers/\(id)") == true)
        let server = try #require(reply.json["server"])
        #expect(server["adminPass"] == "pw" && server["name"] == "new" && server["status"] == "REBUILD")
        #expect(server["metadata"] == ["a": "b"] && server["accessIPv4"] == "203.0.113.4")
        #expect(server["key_name"] == nil && server["user_data"] == nil)
        guard case .rebuild(let material) = try await command(cloud, id) else { throw Failure(.internalError, "") }
        #expect(material.files == [InjectedFile(path: "/etc/motd", contents: "aGk=")])
        #expect(material.adminPassword == "pw")
    }

    @Test("From 2.54 a rebuild takes a key, from 2.57 user data and no files")
    func rebuildLater() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive(at: "2.57", ["networks": "auto", "user_data": "aGk="])
        let least: [String: JSON] = ["imageRef": .string(ComputeFixture.image)]
        func send(_ more: [String: JSON], _ version: String) async -> ComputeFixture.Reply {
            let body = JSON.object(least.merging(more) { $1 })
            return await cloud.send(.post, "servers/\(id)/action", at: version, ["rebuild": body])
        }
        #expect(await send(["key_name": .null], "2.53").status == 400)
        #expect(await send(["key_name": "none"], "2.54").status == 400)
        #expect(await send(["user_data": "aGk="], "2.56").status == 400)
        #expect(await send(["personality": []], "2.57").status == 400)
        #expect(await send(["preserve_ephemeral": true], "2.1").status == 400)
        #expect(await send(["description": "d"], "2.18").status == 400)
        let reply = await send(["user_data": .null, "key_name": .null, "description": "d"], "2.57")
        #expect(reply.status == 202)
        #expect(reply.json["server"]?["user_data"] == .null && reply.json["server"]?["key_name"] == .null)
        #expect(reply.json["server"]?["description"] == "d")
        #expect(try await cloud.instance(id)?.userData == nil)
    }

    @Test("Files to inject are bounded, absolute and base64")
    func personality() async throws {
        let cloud = try await ComputeFixture()
        func status(_ files: JSON) async -> Int {
            await cloud.send(.post, "servers", ComputeFixture.server(["personality": files])).status
        }
        let file: JSON = ["path": "/a", "contents": "aGk="]
        #expect(await status([file]) == 202)
        #expect(await status(.array(Array(repeating: file, count: 6))) == 403)
        #expect(await status([["path": "a", "contents": "aGk="]]) == 400)
        #expect(await status([["path": "/../a", "contents": "aGk="]]) == 400)
        #expect(await status([["path": "/a", "contents": "*"]]) == 400)
        let large = String(repeating: "AAAA", count: 3_414)
        #expect(await status([["path": "/a", "contents": .string(large)]]) == 403)
        let rows = try await cloud.database.tasks.list(instance: nil, unfinishedOnly: true, limit: 10)
        let state = try TaskEngine.state(BuildTaskState.self, of: try #require(rows.first))
        #expect(state.files == [InjectedFile(path: "/a", contents: "aGk=")])
    }

    @Test("A locked server refuses the owner's actions and shows locked; what an administrator locked, only he unlocks")
    func lock() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        func act(_ name: String, as token: String) async -> Int {
            await cloud.send(.post, "servers/\(id)/action", as: token, .object([name: .null])).status
        }
        #expect(await act("lock", as: "p1/member") == 202)
        #expect(await cloud.send(.get, "servers/\(id)", at: "2.9").json["server"]?["locked"] == true)
        let refused = await cloud.send(.post, "servers/\(id)/action", ["os-stop": .null])
        #expect(refused.status == 409 && refused.message == "Instance \(id) is locked")
        #expect(await cloud.send(.delete, "servers/\(id)").status == 409)
        #expect(await act("pause", as: "ops/admin") == 202)
        #expect(await act("unlock", as: "p1/member") == 202)
        #expect(await act("lock", as: "ops/admin") == 202)
        #expect(await act("unlock", as: "p1/member") == 403)
        #expect(await act("unlock", as: "ops/admin") == 202)
        #expect(await cloud.send(.get, "servers/\(id)", at: "2.9").json["server"]?["locked"] == false)
        let done = try await cloud.database.actions.list(InstanceID(id)).filter { $0.kind == .lock }
        #expect(done.count == 2 && done.allSatisfy { $0.finishedAt != nil && $0.message == nil })
        #expect(await cloud.send(.post, "servers/\(id)/action", ["lock": ["locked_reason": "x"]]).status == 400)
    }

    @Test("An administrator sets the recorded state; nothing else is taken for one")
    func resetState() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        #expect(await cloud.send(.post, "servers/\(id)/action", ["os-resetState": ["state": "error"]]).status == 403)
        for state in [JSON("paused"), 1, .null] {
            let reply = await cloud.send(
                .post, "servers/\(id)/action", as: "ops/admin", ["os-resetState": ["state": state]])
            #expect(reply.status == 400)
        }
        for (state, status) in [("error", "ERROR"), ("active", "ACTIVE")] {
            let reply = await cloud.send(
                .post, "servers/\(id)/action", as: "ops/admin", ["os-resetState": ["state": .string(state)]])
            #expect(reply.status == 202)
            #expect(await cloud.send(.get, "servers/\(id)").json["server"]?["status"]?.text == status)
        }
    }

    @Test("With a reclaim interval a delete is soft; it can be restored within the quota, and forced")
    func softDelete() async throws {
        let cloud = try await ComputeFixture(
            settings: APISettings(quotas: .init(instances: 1), reclaimInterval: .seconds(60)))
        let id = try await cloud.makeActive()
        #expect(await cloud.send(.delete, "servers/\(id)").status == 204)
        #expect(try await cloud.instance(id)?.taskState == .softDeleting)
        #expect(try await command(cloud, id) == .softDelete)
        #expect(await cloud.send(.delete, "servers/\(id)").status == 204)
        #expect(try await cloud.instance(id)?.fence.generation == 2, "a second delete changes nothing")
        try await cloud.settle(id, .softDeleted, power: .shutdown)
        // What is softly deleted takes no quota; what takes its place stands in the way.
        let other = try await cloud.makeActive()
        let refused = await cloud.send(.post, "servers/\(id)/action", ["restore": .null])
        #expect(refused.status == 403 && refused.message.contains("Quota exceeded for instances"))
        #expect(try await cloud.instance(id)?.vmState == .softDeleted)
        #expect(await cloud.send(.post, "servers/\(other)/action", ["forceDelete": .null]).status == 202)
        #expect(try await cloud.instance(other)?.taskState == .deleting)
    }

    @Test("A server that was never active is deleted for good")
    func neverActive() async throws {
        let cloud = try await ComputeFixture(settings: APISettings(reclaimInterval: .seconds(60)))
        let id = try await cloud.makeServer()
        #expect(await cloud.send(.delete, "servers/\(id)").status == 204)
        #expect(try await cloud.instance(id)?.taskState == .deleting)
    }

    @Test("What needs the guest's host is 409 while the host is down; deleting is not")
    func hostDown() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        let id = try await cloud.makeActive()
        cloud.clock.advance(by: .seconds(60))
        let reply = await cloud.send(.post, "servers/\(id)/action", ["os-stop": .null])
        #expect(reply.status == 409 && reply.message.contains("is down"))
        #expect(await cloud.send(.delete, "servers/\(id)").status == 204)
    }
}
