import HTTP
import Images
import Model
import Testing

@Suite("Image records")
struct ImageRecordTests {
    private let rawHeader: [UInt8] = [1, 2, 3, 4]

    @Test("A new image is queued, shared, owned by the caller's project, and answers with its place")
    func create() async throws {
        try await ImageFixture.run { images in
            let answer = await images.send(
                .post, "/v2/images",
                json: ["name": "Größe ₡", "disk_format": "qcow2", "container_format": "bare", "hw_disk_bus": "virtio"])
            #expect(answer.status == 201)
            let image = try JSON(parsing: answer.bytes)
            let id = try #require(image["id"]?.text)
            #expect(answer.headers["Location"] == "http://cloud:8774/image/v2/images/\(id)")
            #expect(image["status"] == "queued")
            #expect(image["visibility"] == "shared")
            #expect(image["owner"] == "p1")
            #expect(image["hw_disk_bus"] == "virtio")
            #expect(image["created_at"] == "2026-01-01T00:00:00Z")
            #expect(try await images.show(id) == image)
        }
    }

    @Test(
        "What cannot be an image is refused",
        arguments: [
            ("{}x", 400), ("[]", 400), (#"{"disk_format":"vmdk"}"#, 400), (#"{"container_format":"ovf"}"#, 400),
            (#"{"id":"x"}"#, 400), (#"{"name":1}"#, 400), (#"{"min_disk":-1}"#, 400), (#"{"min_ram":"1"}"#, 400),
            (#"{"protected":"yes"}"#, 400), (#"{"tags":[1]}"#, 400), (#"{"visibility":"secret"}"#, 400),
            (#"{"visibility":"public"}"#, 403), (#"{"status":"active"}"#, 403), (#"{"size":1}"#, 403),
            (#"{"owner":"p2"}"#, 403), (#"{"my_property":1}"#, 400), (#"{"os_glance_x":"1"}"#, 403),
            (#"{"locations":[]}"#, 403), (#"{"hw_disk_bus":"floppy"}"#, 400),
        ])
    func badCreate(body: String, status: Int) async throws {
        try await ImageFixture.run { images in
            let answer = await images.send(.post, "/v2/images", body: .bytes(Array(body.utf8)))
            #expect(answer.status == status)
            let names = try await images.names("")
            #expect(names.isEmpty)
        }
    }

    @Test("Names over 255 characters and more than 128 properties are refused")
    func limits() async throws {
        try await ImageFixture.run { images in
            let long = JSON.string(String(repeating: "ö", count: 256))
            #expect(await images.send(.post, "/v2/images", json: ["name": long]).status == 400)
            let many = Dictionary(uniqueKeysWithValues: (0..<129).map { ("p\($0)", JSON.string("x")) })
            #expect(await images.send(.post, "/v2/images", json: .object(many)).status == 413)
        }
    }

    @Test("The same id twice is a conflict")
    func duplicate() async throws {
        try await ImageFixture.run { images in
            let id: JSON = "aaaaaaaa-1111-4111-8111-111111111111"
            #expect(await images.send(.post, "/v2/images", json: ["id": id]).status == 201)
            #expect(await images.send(.post, "/v2/images", json: ["id": id]).status == 409)
        }
    }

    @Test("Others see public and community images only, and change none")
    func visibility() async throws {
        try await ImageFixture.run { images in
            let mine = try await images.register(["name": "private", "visibility": "private"])
            let community = try await images.register(["name": "community", "visibility": "community"])
            let open = try await images.register(as: "p0/admin", ["name": "public", "visibility": "public"])
            #expect(try await images.names("?sort=name:asc") == ["community", "private", "public"])
            #expect(try await images.names("", as: "p2/member") == ["public"])
            #expect(try await images.names("?visibility=community", as: "p2/member") == ["community"])
            #expect(await images.send(.get, "/v2/images/\(mine)", as: "p2/member").status == 404)
            #expect(await images.send(.get, "/v2/images/\(community)", as: "p2/member").status == 200)
            #expect(await images.send(.delete, "/v2/images/\(mine)", as: "p2/member").status == 404)
            #expect(await images.send(.delete, "/v2/images/\(open)", as: "p2/member").status == 403)
            #expect(await images.upload(mine, rawHeader, as: "p2/member").status == 404)
            #expect(await images.upload(open, rawHeader, as: "p2/member").status == 403)
            #expect(await images.send(.delete, "/v2/images/\(mine)", as: "p1/reader").status == 403)
            #expect(await images.send(.post, "/v2/images", as: "p1/reader", json: [:]).status == 403)
            #expect(await images.send(.delete, "/v2/images/\(mine)", as: "p2/admin").status == 204)
        }
    }

    @Test("Without a token every call but the version documents is 401")
    func authentication() async throws {
        try await ImageFixture.run { images in
            #expect(await images.send(.get, "/", as: nil).status == 300)
            #expect(await images.send(.get, "/versions", as: nil).status == 200)
            for (method, pattern) in images.router.routes
            where !["/", "/versions", "/v2"].contains(pattern) {
                let path = pattern.replacing("{id}", with: "aaaaaaaa-1111-4111-8111-111111111111")
                    .replacing("{tag}", with: "t")
                let answer = await images.send(method, path, as: nil)
                #expect(answer.status == 401, "\(method.rawValue) \(pattern)")
            }
        }
    }

    @Test("A patch sets, replaces and removes members")
    func patch() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register(["color": "red"])
            let answer = await images.patch(
                id,
                [
                    ["op": "replace", "path": "/name", "value": "new"], ["op": "add", "path": "/a~1b", "value": "x"],
                    ["op": "remove", "path": "/color"], ["op": "replace", "path": "/tags", "value": ["t1", "t2"]],
                    ["op": "add", "path": "/min_disk", "value": 3],
                ])
            #expect(answer.status == 200)
            let image = try JSON(parsing: answer.bytes)
            #expect(image["name"] == "new")
            #expect(image["a/b"] == "x")
            #expect(image["color"] == nil)
            #expect(image["tags"] == ["t1", "t2"])
            #expect(image["min_disk"] == 3)
        }
    }

    @Test(
        "A patch that cannot be is refused whole",
        arguments: [
            (#"[{"op":"replace","path":"/name","value":"x"},{"op":"replace","path":"/nothing","value":"1"}]"#, 409),
            (#"[{"op":"remove","path":"/nothing"}]"#, 409), (#"[{"op":"remove","path":"/name"}]"#, 403),
            (#"[{"op":"replace","path":"/id","value":"1"}]"#, 403), (#"[{"op":"move","path":"/name"}]"#, 400),
            (#"[{"op":"replace","path":"name","value":"1"}]"#, 400), (#"[{"op":"replace","path":"/name"}]"#, 400),
            (#"[{"op":"add","path":"/a/b","value":"1"}]"#, 400), (#"[{"op":"add","path":"/a~2","value":"1"}]"#, 400),
            (#"[{"op":"replace","path":"/visibility","value":"public"}]"#, 403), (#"{"name":"x"}"#, 400),
        ])
    func badPatch(body: String, status: Int) async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            let answer = await images.patch(id, try JSON(parsing: Array(body.utf8)))
            #expect(answer.status == status)
            #expect(try await images.show(id)["name"] == "i")
        }
    }

    @Test("A patch of another media type is 415")
    func patchType() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await images.send(.patch, "/v2/images/\(id)", json: []).status == 415)
        }
    }

    @Test("A protected image stays until it is protected no more")
    func protected() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register(["protected": true])
            #expect(await images.upload(id, rawHeader).status == 204)
            #expect(await images.send(.delete, "/v2/images/\(id)").status == 403)
            #expect(await images.patch(id, [["op": "replace", "path": "/protected", "value": false]]).status == 200)
            #expect(await images.send(.delete, "/v2/images/\(id)").status == 204)
            #expect(await images.send(.get, "/v2/images/\(id)").status == 404)
            #expect(try images.files.isEmpty)
        }
    }

    @Test("Tags are added and removed one by one")
    func tags() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await images.send(.put, "/v2/images/\(id)/tags/red").status == 204)
            #expect(try await images.show(id)["tags"] == ["red"])
            #expect(await images.send(.delete, "/v2/images/\(id)/tags/red").status == 204)
            #expect(await images.send(.delete, "/v2/images/\(id)/tags/red").status == 404)
        }
    }

    @Test(
        "Names and other texts that are no uuid are a clean 404", arguments: ["cirros", "-1", "a%20b", "%F0%9F%90%A6"])
    func unknown(name: String) async throws {
        try await ImageFixture.run { images in
            #expect(await images.send(.get, "/v2/images/\(name)").status == 404)
        }
    }
}
