import HTTP
import Images
import Model
import Testing

@Suite("Uploading and deleting by ticket")
struct UploadTicketTests {
    private static func ticket(
        _ id: String, _ access: ImageAccess = .write, for duration: Duration = .seconds(60)
    ) -> String {
        ImageFixture.tickets.issue(
            host: HostName("h"), image: ImageID(id), access: access, expiresAt: ImageFixture.start + duration)
    }

    private static func put(_ images: ImageFixture, _ id: String, _ ticket: String?, _ bytes: [UInt8]) async -> Int {
        var request = HTTPRequest(.put, "/\(id)", headers: ["Content-Length": String(bytes.count)])
        request.headers["X-Apus-Ticket"] = ticket
        request.body = .stream(BytesSource(bytes, pieceSize: 1_000))
        return await images.data.handle(request).status
    }

    @Test("A host fills a queued image once; it becomes active with size and digest")
    func fills() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await Self.put(images, id, Self.ticket(id), [1, 2, 3]) == 204)
            let shown = try await images.show(id)
            #expect(shown["status"]?.text == "active" && shown["size"]?.int == 3)
            #expect(shown["os_hash_value"]?.text?.count == 128)
            #expect(await Self.put(images, id, Self.ticket(id), [1, 2, 3]) == 409)
            #expect(try images.files == [id])
        }
    }

    @Test("A ticket for another image, for reading, expired or none fills nothing")
    func refusals() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            let other = try await images.register()
            for ticket in [
                Self.ticket(other), Self.ticket(id, .read), Self.ticket(id, .delete), Self.ticket(id, for: .zero), nil,
            ] {
                #expect(await Self.put(images, id, ticket, [1]) == 401)
            }
            #expect(try await images.show(id)["status"]?.text == "queued")
            #expect(try images.files.isEmpty)
        }
    }

    @Test("Bytes beyond the limit, or that are not what the image claims, leave it queued without a file")
    func unacceptable() async throws {
        try await ImageFixture.run(sizeLimit: 10) { images in
            let id = try await images.register()
            #expect(await Self.put(images, id, Self.ticket(id), Array(repeating: 1, count: 11)) == 413)
            let qcow2 = try await images.register(["disk_format": "qcow2"])
            #expect(await Self.put(images, qcow2, Self.ticket(qcow2), [1, 2, 3]) == 400)
            for each in [id, qcow2] { #expect(try await images.show(each)["status"]?.text == "queued") }
            #expect(try images.files.isEmpty)
        }
    }

    @Test("An image that is gone is 404, whatever the ticket says")
    func gone() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await images.send(.delete, "/v2/images/\(id)").status == 204)
            #expect(await Self.put(images, id, Self.ticket(id), [1]) == 404)
            #expect(try images.files.isEmpty)
        }
    }

    @Test("A ticket to delete takes the image with its bytes; one to read or to write does not")
    func deletes() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await images.upload(id, [1, 2, 3]).status == 204)
            for (access, status) in [(ImageAccess.read, 401), (.write, 401), (.delete, 204), (.delete, 404)] {
                let request = HTTPRequest(.delete, "/\(id)", headers: ["X-Apus-Ticket": Self.ticket(id, access)])
                #expect(await images.data.handle(request).status == status)
            }
            #expect(try images.files.isEmpty)
        }
    }
}
