import Foundation
import Libvirt
import Testing

/// A world of libvirt's test driver: one XML file in a folder of its own. Every connection to it has its own copy.
final class TestHypervisor {
    let uri: String
    private let folder: URL

    /// - Parameter content: the elements inside `<node>`.
    init(_ content: String = "") throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "apus-libvirt-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let file = folder.appending(path: "node.xml")
        try Data("<node>\(content)</node>".utf8).write(to: file)
        uri = "test://\(file.path)"
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func connect(_ change: (inout ConnectionOptions) -> Void = { _ in }) async throws -> LibvirtConnection {
        var options = ConnectionOptions()
        change(&options)
        return try await LibvirtConnection.open(uri: uri, options: options)
    }
}

func domainXML(name: String, uuid: String? = nil, memoryKiB: Int = 65_536, inside: String = "") -> String {
    """
    <domain type='test'><name>\(name)</name>\(uuid.map { "<uuid>\($0)</uuid>" } ?? "")
    <memory unit='KiB'>\(memoryKiB)</memory><vcpu>2</vcpu><os><type>hvm</type></os>\(inside)</domain>
    """
}

let sampleNetwork = """
    <network><name>lan</name><bridge name='virbr7'/><forward/>
    <ip address='198.51.100.1' netmask='255.255.255.0'>
    <dhcp><range start='198.51.100.10' end='198.51.100.99'/></dhcp></ip></network>
    """

/// Collects what a connection tells, to be awaited.
final class Recorder: Sendable {
    let stream: AsyncStream<ConnectionEvent>
    private let continuation: AsyncStream<ConnectionEvent>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(100)) }

    func record(_ event: ConnectionEvent) { continuation.yield(event) }

    func next(_ count: Int) async -> [ConnectionEvent] {
        var events: [ConnectionEvent] = []
        for await event in stream {
            events.append(event)
            if events.count == count { break }
        }
        return events
    }
}

func error(_ code: LibvirtError.Code, _ body: () async throws -> Void) async {
    let thrown = await #expect(throws: LibvirtError.self) { try await body() }
    #expect(thrown?.code == code)
}
