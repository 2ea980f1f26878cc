import HTTP
import Images
import Model
import Testing

@Suite("Image tickets")
struct ImageTicketTests {
    private let authority = ImageTicketAuthority(secret: Array(repeating: 1, count: 32))
    private let now = Timestamp(seconds: 1_000_000)
    private let image = ImageID("11111111-1111-4111-8111-111111111111")

    @Test("A ticket says for whom and what it is")
    func genuine() throws {
        let ticket = authority.issue(host: HostName("kvm-1"), image: image, expiresAt: now + .seconds(300))
        let facts = try authority.verify(ticket, image: image, now: now)
        #expect(facts.host == HostName("kvm-1"))
        #expect(facts.expiresAt == now + .seconds(300))
    }

    @Test("A ticket is no good late, for another image, by another secret, or changed")
    func refusals() throws {
        let ticket = authority.issue(host: HostName("kvm-1"), image: image, expiresAt: now + .seconds(300))
        let other = ImageTicketAuthority(secret: Array(repeating: 2, count: 32))
        #expect(throws: ImageTicketError.expired) {
            try authority.verify(ticket, image: image, now: now + .seconds(300))
        }
        #expect(throws: ImageTicketError.otherImage) {
            try authority.verify(ticket, image: ImageID("22222222-2222-4222-8222-222222222222"), now: now)
        }
        #expect(throws: ImageTicketError.forged) { try other.verify(ticket, image: image, now: now) }
        let changed = ticket.replacing("apus1.", with: "apus1.AA")
        #expect(throws: ImageTicketError.forged) { try authority.verify(changed, image: image, now: now) }
        for text in ["", "apus1", "apus1..", "a.b.c", String(repeating: "x", count: 5_000)] {
            #expect(throws: (any Error).self) { try authority.verify(text, image: image, now: now) }
        }
    }

    @Test("The image's bytes go to the bearer of a ticket and to nobody with a token")
    func route() async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await images.upload(id, [1, 2, 3]).status == 204)
            let ticket = ImageFixture.tickets.issue(
                host: HostName("h"), image: ImageID(id), expiresAt: ImageFixture.start + .seconds(60))
            let good = await images.data.handle(HTTPRequest(.get, "/\(id)", headers: ["X-Apus-Ticket": ticket]))
            #expect(good.status == 200)
            let token = await images.data.handle(HTTPRequest(.get, "/\(id)", headers: ["X-Auth-Token": "p1/admin"]))
            #expect(token.status == 401)
            let path = await images.data.handle(
                HTTPRequest(.get, "/..%2F..%2Fetc%2Fpasswd", headers: ["X-Apus-Ticket": ticket]))
            #expect(path.status == 401)
        }
    }

    @Test(
        "A part of the bytes is served by its range; beyond the end is 416; what is no single range gives the whole",
        arguments: [
            ("bytes=0-", 206, 0, 10, "bytes 0-9/10"), ("bytes=4-", 206, 4, 6, "bytes 4-9/10"),
            ("bytes=2-3", 206, 2, 2, "bytes 2-3/10"), ("bytes=9-99", 206, 9, 1, "bytes 9-9/10"),
            ("Bytes=-3", 206, 7, 3, "bytes 7-9/10"), ("bytes=-99", 206, 0, 10, "bytes 0-9/10"),
            ("bytes=10-", 416, 0, 0, "bytes */10"), ("bytes=-0", 416, 0, 0, "bytes */10"),
            ("bytes=99999999999999999999-", 200, 0, 10, nil), ("bytes=3-2", 200, 0, 10, nil),
            ("bytes=1-2,4-5", 200, 0, 10, nil), ("bytes", 200, 0, 10, nil), ("lines=1-2", 200, 0, 10, nil),
            ("bytes=-", 200, 0, 10, nil), ("bytes=a-b", 200, 0, 10, nil), ("bytes=+1-2", 200, 0, 10, nil),
        ] as [(String, Int, Int64, Int64, String?)])
    func ranges(header: String, status: Int, offset: Int64, length: Int64, range: String?) async throws {
        try await ImageFixture.run { images in
            let id = try await images.register()
            #expect(await images.upload(id, Array(0..<10)).status == 204)
            let ticket = ImageFixture.tickets.issue(
                host: HostName("h"), image: ImageID(id), expiresAt: ImageFixture.start + .seconds(60))
            let answer = await images.data.handle(
                HTTPRequest(.get, "/\(id)", headers: ["X-Apus-Ticket": ticket, "Range": header]))
            #expect(answer.status == status)
            #expect(answer.headers["Content-Range"] == range)
            guard status != 416 else { return }
            guard case .file(_, let from, let count) = answer.body else {
                Issue.record("the body is not the file")
                return
            }
            #expect(from == offset && count == length)
            // The digest is that of all bytes.
            #expect((answer.headers["Content-MD5"] != nil) == (status == 200))
        }
    }
}
