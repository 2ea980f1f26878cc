import Foundation
import Libvirt
import Model
import Processes
import Testing
import XML

@Suite("Golden domains, against a real libvirtd", .serialized, .enabled(if: isHypervisorTier), .timeLimit(.minutes(5)))
struct GoldenDomainTests {
    private static let folder = repository + "/Tests/LibvirtDriverTests/Golden"

    @Test("Every golden document is accepted with validation, comes back with what it says, and can be removed")
    func accepted() async throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.folder).sorted()
        #expect(names.count > 20)
        try await LabHost.with { host in
            let connection = try await LibvirtConnection.open(uri: host.uri)
            let hasKVM = try await connection.capabilities().contains("<domain type='kvm'")
            for name in names {
                let text = try String(contentsOfFile: Self.folder + "/" + name, encoding: .utf8)
                var document = try XMLNode(parsing: text)
                // Where KVM cannot run guests libvirt has no such type.
                if !hasKVM { document["type"] = "qemu" }
                do {
                    let made = try await connection.define(xml: try document.serialized(), validate: true)
                    let kept = try XMLNode(parsing: try await connection.xml(of: .uuid(made.uuid), options: .inactive))
                    Self.expectKept(document, kept, name)
                    try await connection.undefine(.uuid(made.uuid))
                } catch let error as LibvirtError {
                    Issue.record("\(name): \(error.call): \(error.message)")
                }
            }
            #expect(try await connection.domains() == [])
            #expect(await connection.close() == .closed)
        }
    }

    /// libvirt adds to a document (addresses, controllers), and must not drop or change what it says.
    private static func expectKept(_ written: XMLNode, _ kept: XMLNode, _ place: String) {
        for (name, value) in written.attributes where !name.hasPrefix("xmlns") {
            // Machine types are aliases of versions; places on a bus are chosen by libvirt.
            if ["machine", "port"].contains(name) { continue }
            #expect(kept[name] == value, "\(place)/\(written.name)@\(name)")
        }
        if !written.text.isEmpty { #expect(kept.text == written.text, "\(place)/\(written.name)") }
        var candidates = kept.children
        for child in written.children {
            let place = "\(place)/\(child.name)"
            guard let index = candidates.firstIndex(where: { isSame(child, $0) }) else {
                // The end of a chain of disks is not written back.
                if child != XMLNode("backingStore") { Issue.record("\(place) \(child.attributes) is gone") }
                continue
            }
            expectKept(child, candidates.remove(at: index), place)
        }
    }

    private static func isSame(_ written: XMLNode, _ kept: XMLNode) -> Bool {
        guard written.name == kept.name else { return false }
        // libvirt sorts disks by bus and target.
        if written.name == "disk", written.first("target")?["dev"] != kept.first("target")?["dev"] { return false }
        return ["type", "name", "bus", "dev", "model"].allSatisfy { key in
            written[key].map { $0 == kept[key] || key == "model" && written.name == "driver" } ?? true
        }
    }
}
