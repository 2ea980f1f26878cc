internal import HTTP
internal import Model
internal import Synchronization

extension Command {
    /// `apus image …`
    static let image = Command.group(
        "image", "Images: list, create, delete.",
        [
            .client("list", "List images.") { _, context in
                let images = try await allImages(context.client)
                var table = Table(["ID", "NAME", "STATUS", "FORMAT", "SIZE", "VISIBILITY"], numeric: [4])
                for image in images {
                    table.add([
                        image["id"]?.text ?? "", image["name"]?.text ?? "", image["status"]?.text ?? "",
                        image["disk_format"]?.text ?? "",
                        image["size"]?.int.map { readable(bytes: Int64($0)) } ?? "",
                        image["visibility"]?.text ?? "",
                    ])
                }
                context.show(.array(images), images.isEmpty ? "There are no images." : table.text)
            },
            .client(
                "create", "Create an image from a file.",
                arguments: [ArgumentSpec(name: "NAME", help: "The new image's name.")],
                options: [
                    OptionSpec(name: "file", value: "FILE", help: "The disk image to upload."),
                    OptionSpec(
                        name: "disk-format", value: "raw|qcow2",
                        help: "What the file is; seen from its first bytes when absent."),
                    OptionSpec(name: "min-disk", value: "GIB", help: "The smallest root disk it may boot from."),
                    OptionSpec(name: "min-ram", value: "MIB", help: "The least memory it needs."),
                    OptionSpec(name: "public", help: "For every project (administrators)."),
                ], createImage),
            .client(
                "delete", "Delete images.",
                arguments: [ArgumentSpec(name: "IMAGE", help: "Name or id.", isRepeated: true)]
            ) { invocation, context in
                var ids: [String] = []
                for name in invocation.arguments {
                    let id = try await findImage(name, context.client)["id"]?.text ?? ""
                    _ = try await context.client.request(.delete, .image, "/images/\(percentEncoded(id))")
                    ids.append(id)
                    context.remark("Deleted \(name) (\(id)).")
                }
                if context.wantsJSON { context.terminal.print(.array(ids.map { .string($0) })) }
            },
        ])
}

@Sendable private func createImage(_ invocation: Invocation, _ context: ClientContext) async throws {
    guard let path = invocation.value("file") else { throw CommandError.usage("--file is missing.") }
    let format = invocation.value("disk-format")
    if let format, DiskFormat(rawValue: format) == nil {
        throw CommandError.usage("--disk-format takes raw or qcow2, not '\(format)'.")
    }
    let progress = Progress(terminal: context.terminal)
    let source = try FileSource(path: path) { progress.advance(by: $0) }
    progress.begin(total: source.length)
    guard source.length > 0 else { throw CommandError.failure("\(path) is empty.") }

    var image: [String: JSON] = [
        "name": .string(invocation.arguments[0]), "container_format": "bare",
        "disk_format": .string(format ?? guessedFormat(source.peek(4))),
        "visibility": invocation.has("public") ? "public" : "private",
    ]
    if let size = try invocation.number("min-disk", in: 0...1_000_000) { image["min_disk"] = .integer(Int64(size)) }
    if let size = try invocation.number("min-ram", in: 0...100_000_000) { image["min_ram"] = .integer(Int64(size)) }
    let made = try await context.client.request(.post, .image, "/images", body: .object(image))
    guard let id = made["id"]?.text else {
        throw CommandError.failure("The answer to the creation holds no image.")
    }
    do {
        try await context.client.upload(.image, "/images/\(percentEncoded(id))/file", length: source.length, source)
        progress.finish()
    } catch {
        progress.finish()
        // What was refused or broke off would stay behind as a queued record without bytes.
        do { _ = try await context.client.request(.delete, .image, "/images/\(percentEncoded(id))") } catch let second {
            context.remark("The record \(id) could not be removed: \(describe(second))")
        }
        throw error
    }
    let shown = try await context.client.request(.get, .image, "/images/\(percentEncoded(id))")
    context.show(shown, imageFacts(shown))
}

/// The bar, once the size is known.
private final class Progress: Sendable {
    private let terminal: Terminal
    private let bar = Mutex<ProgressBar?>(nil)

    init(terminal: Terminal) { self.terminal = terminal }

    func begin(total: Int64) { bar.withLock { $0 = ProgressBar(total: total, terminal: terminal) } }

    func advance(by bytes: Int) { bar.withLock { $0 }?.advance(by: bytes) }

    func finish() { bar.withLock { $0 }?.finish() }
}

private func guessedFormat(_ head: [UInt8]) -> String {
    head == [0x51, 0x46, 0x49, 0xfb] ? "qcow2" : "raw"
}

private func imageFacts(_ image: JSON) -> String {
    let facts: [(String, String)] = [
        ("id", image["id"]?.text ?? ""), ("name", image["name"]?.text ?? ""), ("status", image["status"]?.text ?? ""),
        ("format", image["disk_format"]?.text ?? ""),
        ("size", image["size"]?.int.map { readable(bytes: Int64($0)) } ?? ""),
        ("virtual size", image["virtual_size"]?.int.map { readable(bytes: Int64($0)) } ?? ""),
        ("sha512", image["os_hash_value"]?.text ?? ""), ("visibility", image["visibility"]?.text ?? ""),
    ]
    return Table.facts(facts.filter { !$0.1.isEmpty })
}
