import Testing

@testable import Libvirt

@Suite("Domains, against libvirt's test driver", .timeLimit(.minutes(1)))
struct DomainTests {
    let uuid = "6f1f4a3c-2b1e-4f0d-9a55-0123456789ab"

    @Test("A defined domain is found by uuid and by name, and is off")
    func define() async throws {
        let connection = try await TestHypervisor().connect()
        let defined = try await connection.define(xml: domainXML(name: "one", uuid: uuid))
        #expect(defined == DomainIdentity(uuid: uuid, name: "one", id: nil))
        #expect(try await connection.identity(of: .name("one")) == defined)
        #expect(try await connection.identity(of: .uuid(uuid)) == defined)
        #expect(try await connection.domains() == [defined])
        #expect(try await connection.domains(.active) == [])
        let info = try await connection.info(of: .uuid(uuid))
        #expect(info.isPersistent)
        #expect(!info.isActive)
        #expect(info.maximumMemoryKiB == 65_536)
        #expect(info.vcpus == 2)
        #expect(await connection.close() == .closed)
    }

    @Test("A life: start, suspend, resume, destroy, undefine, each with its state and reason")
    func life() async throws {
        let connection = try await TestHypervisor().connect()
        _ = try await connection.define(xml: domainXML(name: "one", uuid: uuid))
        try await connection.start(.uuid(uuid))
        #expect(try await connection.status(of: .uuid(uuid)) == DomainStatus(.running, .booted))
        #expect(try await connection.identity(of: .uuid(uuid)).id != nil)
        try await connection.suspend(.uuid(uuid))
        #expect(try await connection.status(of: .uuid(uuid)) == DomainStatus(.paused, .userRequest))
        try await connection.resume(.uuid(uuid))
        #expect(try await connection.status(of: .uuid(uuid)) == DomainStatus(.running, .unpaused))
        try await connection.destroy(.uuid(uuid))
        #expect(try await connection.status(of: .uuid(uuid)) == DomainStatus(.shutOff, .destroyed))
        try await connection.undefine(.uuid(uuid))
        await error(.noDomain) { _ = try await connection.status(of: .uuid(uuid)) }
        #expect(await connection.close() == .closed)
    }

    @Test("A start option that the driver lacks is an error, not ignored")
    func startOptions() async throws {
        let connection = try await TestHypervisor().connect()
        _ = try await connection.define(xml: domainXML(name: "one"))
        await error(.argumentInvalid) { try await connection.start(.name("one"), options: .paused) }
        #expect(try await connection.status(of: .name("one")).state == .shutOff)
        #expect(await connection.close() == .closed)
    }

    @Test("A guest that shuts itself down is not one that was destroyed")
    func shutdownReason() async throws {
        let connection = try await TestHypervisor().connect()
        _ = try await connection.createTransient(xml: domainXML(name: "gone", uuid: uuid))
        #expect(try await connection.info(of: .uuid(uuid)).isPersistent == false)
        _ = try await connection.define(xml: domainXML(name: "gone", uuid: uuid))
        try await connection.shutdown(.uuid(uuid))
        #expect(try await connection.status(of: .uuid(uuid)) == DomainStatus(.shutOff, .shutdown))
        #expect(await connection.close() == .closed)
    }

    @Test("What makes no sense in a state says so, and changes nothing")
    func wrongState() async throws {
        let connection = try await TestHypervisor().connect()
        _ = try await connection.define(xml: domainXML(name: "one"))
        await error(.operationInvalid) { try await connection.destroy(.name("one")) }
        await #expect(throws: LibvirtError.self) { try await connection.shutdown(.name("one")) }
        try await connection.start(.name("one"))
        await #expect(throws: LibvirtError.self) { try await connection.start(.name("one")) }
        #expect(try await connection.status(of: .name("one")).state == .running)
        #expect(await connection.close() == .closed)
    }

    @Test("A name with another uuid is refused")
    func conflict() async throws {
        let connection = try await TestHypervisor().connect()
        _ = try await connection.define(xml: domainXML(name: "one", uuid: uuid))
        let other = domainXML(name: "one", uuid: "00000000-1111-4222-8333-444444444444")
        let thrown = await #expect(throws: LibvirtError.self) { _ = try await connection.define(xml: other) }
        #expect(thrown?.call == "virDomainDefineXMLFlags")
        #expect([.operationFailed, .domainExists].contains(thrown?.code))
        #expect(try await connection.domains().map(\.uuid) == [uuid])
        #expect(await connection.close() == .closed)
    }

    @Test(
        "Hostile XML is refused and nothing is defined",
        arguments: [
            "", "not xml", "<domain", "<domain type='test'/>", "<network/>",
            "<domain type='test'><name>x</name></domain></domain>",
            domainXML(name: ""), domainXML(name: "a/b"), domainXML(name: "a\nb"), domainXML(name: "x", uuid: "no uuid"),
            domainXML(name: "a\u{1}b"), domainXML(name: "a") + "\0<evil/>",
            domainXML(name: "x", memoryKiB: -5), domainXML(name: "x", inside: "<unknown-element/>"),
            "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'>"
                + (0..<9).map { "<!ENTITY \(entity($0 + 1)) '\(String(repeating: "&\(entity($0));", count: 10))'>" }
                .joined() + "]>" + domainXML(name: "&\(entity(9));"),
            String(repeating: "<domain>", count: 3_000),
        ])
    func hostileXML(xml: String) async throws {
        let connection = try await TestHypervisor().connect()
        let thrown = await #expect(throws: LibvirtError.self) { _ = try await connection.define(xml: xml) }
        let code = try #require(thrown?.code)
        #expect(code != .connectionLost)
        #expect(try await connection.domains() == [])
        #expect(await connection.close() == .closed)
    }

    @Test("A name with a zero byte is not the name before it")
    func zeroByte() async throws {
        let connection = try await TestHypervisor().connect()
        _ = try await connection.define(xml: domainXML(name: "one"))
        await error(.argumentInvalid) { _ = try await connection.identity(of: .name("one\0two")) }
        await error(.argumentInvalid) { try await connection.undefine(.uuid("\0")) }
        #expect(await connection.close() == .closed)
    }

    @Test("What a definition has decides what undefining removes")
    func undefining() {
        let plain = undefineFlags(for: "<domain/>", keep: [])
        #expect(plain & 0b110_1100 == 0)
        #expect(undefineFlags(for: "<os><nvram>/x</nvram></os>", keep: []) == plain | 1 << 2)
        #expect(undefineFlags(for: "<os><nvram>/x</nvram></os>", keep: .nvram) == plain | 1 << 3)
        #expect(undefineFlags(for: "<tpm model='tpm-crb'>", keep: []) == plain | 1 << 5)
        #expect(undefineFlags(for: "<tpm model='tpm-crb'>", keep: .tpm) == plain | 1 << 6)
        #expect(undefineFlags(for: "<description>&lt;tpm</description>", keep: []) == plain)
    }

    @Test("Reasons are those of the state they belong to")
    func reasons() {
        #expect(DomainStatus(state: 5, reason: 2) == DomainStatus(.shutOff, .destroyed))
        #expect(DomainStatus(state: 3, reason: 12) == DomainStatus(.paused, .postCopy))
        #expect(DomainStatus(state: 1, reason: 99) == DomainStatus(.running, .other(99)))
        #expect(DomainStatus(state: 77, reason: -1) == DomainStatus(.unknown, .other(-1)))
    }
}

private func entity(_ number: Int) -> String { String(UnicodeScalar(UInt8(97 + number))) }
