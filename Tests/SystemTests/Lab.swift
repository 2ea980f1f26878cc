import Crypto
import Foundation
import Model
import Processes
import Testing

/// Whether the tier that needs root, libvirtd and QEMU was asked for. Then a missing tool is a failure.
let isHypervisorTier = ProcessInfo.processInfo.environment["APUS_TIER"] == "hypervisor"

let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

/// Runs a program to its end; a status other than 0 is an error with what it said.
@discardableResult
func tool(_ path: String, _ arguments: [String], timeout: Duration = .seconds(180)) async throws -> String {
    let result = try await run(Command(path, arguments, timeout: timeout))
    guard result.status == 0 else {
        throw Failure(
            .internalError, "\(path) \(arguments): status \(result.status): \(result.errorText)\(result.outputText)")
    }
    return result.outputText
}

/// A private libvirt host of `deploy/lab`.
struct LabHost: Sendable {
    let uri: String
    let socket: String
    let instancesPath: String
    /// A folder of the test's own, gone with the lab.
    let folder: String

    /// virsh, as an operator would look from outside.
    @discardableResult
    func virsh(_ arguments: String...) async throws -> String {
        try await tool("virsh", ["-q", "-c", uri] + arguments)
    }

    /// How many bytes a guest's QEMU has not read from its monitor's socket.
    func unreadMonitorBytes(of domain: String) async throws -> Int {
        let sockets = try await tool(
            repository + "/deploy/lab", ["exec", "--dir", folder, "host1", "--", "ss", "-xHn"])
        return sockets.split(separator: "\n").reduce(0) { sum, line in
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            guard words.count > 4, words[4].hasSuffix("\(domain)/monitor.sock") else { return sum }
            return sum + (Int(words[2]) ?? 0)
        }
    }

    /// Starts a host, and takes it down whatever happens.
    static func with(_ body: (LabHost) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/apus-lab-" + makeUUID().prefix(8)
        let lab = repository + "/deploy/lab"
        let lines = try await tool(lab, ["up", "--dir", folder, "--hosts", "1"])
        defer { try? FileManager.default.removeItem(atPath: folder) }
        do {
            let host = try #require(
                try JSON(parsing: Array(lines.split(separator: "\n").last.map(String.init)?.utf8 ?? "".utf8)))
            try await body(
                LabHost(
                    uri: #require(host["uri"]?.text), socket: #require(host["socket"]?.text),
                    instancesPath: #require(host["instances_path"]?.text), folder: folder))
        } catch {
            try await tool(lab, ["down", "--dir", folder])
            throw error
        }
        try await tool(lab, ["down", "--dir", folder])
    }
}

/// The image of `deploy/test-image`; the guest in it tells on its console who it is.
struct TestImage: Sendable {
    let bytes: [UInt8]
    let reference: ImageReference

    /// - Parameter hasAgent: whether `qemu-guest-agent` runs in the guest, which then also tells what is plugged into it.
    static func build(hasAgent: Bool = false) async throws -> TestImage {
        let path = FileManager.default.temporaryDirectory.path + "/apus-image-" + makeUUID().prefix(8) + ".qcow2"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let options = hasAgent ? ["--with-agent"] : []
        try await tool(repository + "/deploy/test-image", [path] + options, timeout: .seconds(600))
        let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        let size = bytes[24..<32].reduce(0) { $0 << 8 | Int64($1) }
        return TestImage(
            bytes: bytes,
            reference: ImageReference(
                id: ImageID(makeUUID()), format: .qcow2, sizeBytes: Int64(bytes.count), virtualSizeBytes: size,
                sha512: Hex.encode(digest(.sha512, of: bytes)),
                properties: hasAgent ? ["hw_qemu_guest_agent": "yes"] : [:]))
    }
}
