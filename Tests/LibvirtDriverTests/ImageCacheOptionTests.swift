import Compute
import Configuration
import Foundation
import Libvirt
import Model
import Testing

@testable import LibvirtDriver

@Suite("Options of the image cache reach what its tidying does")
struct ImageCacheOptionTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private func digest(_ number: Int) -> String { String(repeating: "0", count: 127) + String(number, radix: 16) }

    private func place(_ name: String, ageSeconds: Int, in cache: String) throws {
        let path = "\(folder.path)/instances/\(cache)/\(name)"
        if !FileManager.default.fileExists(atPath: path) { try Data([1]).write(to: URL(fileURLWithPath: path)) }
        let date = Date(timeIntervalSinceNow: -Double(ageSeconds))
        try FileManager.default.setAttributes([.modificationDate: date], ofItemAtPath: path)
    }

    /// Which files of a cache are left by a driver with these options: bases unused for 5,000 and 7,500 s, a template
    /// unused for as long as the second, and the base of a guest that nobody has touched for ages.
    private func left(_ options: [String: String], in cache: String = "_base") async throws -> [String] {
        let node = try folder.write(
            Array("<node><network><name>default</name><bridge name='virbr9'/></network></node>".utf8), to: "node.xml")
        let values = Dictionary(uniqueKeysWithValues: options.map { ("image_cache." + $0.key, $0.value) })
        let driver = LibvirtDriver(
            configuration: try Sample.configuration(folder, values), host: LibvirtHost(uri: "test://" + node),
            domainType: "test", clock: ContinuousClock(), soleRole: .control)
        try await driver.start()
        let guest = Sample.guest(image: Sample.image([7, 7]))
        try await driver.prepareImage(guest.image, for: guest.instance.flavor) { try await $1([7, 7]) }
        try await driver.createDisks(guest)
        try place(guest.image.sha512, ageSeconds: 1 << 24, in: cache)
        try place(digest(1), ageSeconds: 5_000, in: cache)
        try place(digest(2), ageSeconds: 7_500, in: cache)
        try place("swap_64", ageSeconds: 7_500, in: cache)
        try await driver.tidyImageCache()
        await driver.stop()
        let names = [digest(1): "younger", digest(2): "older", "swap_64": "template", guest.image.sha512: "used"]
        return try FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/instances/\(cache)")
            .compactMap { names[$0] }.sorted()
    }

    @Test(
        "A base goes when nothing has used it for the age that is set, a template by its own; what is used stays",
        arguments: [
            ([:], ["older", "used", "younger"]),
            (["remove_unused_original_minimum_age_seconds": "7200"], ["used", "younger"]),
            (["remove_unused_original_minimum_age_seconds": "4000"], ["used"]),
            (
                ["remove_unused_resized_minimum_age_seconds": "8000"], ["older", "template", "used", "younger"]
            ),
            (
                [
                    "remove_unused_base_images": "false", "remove_unused_original_minimum_age_seconds": "4000",
                    "remove_unused_resized_minimum_age_seconds": "4000",
                ], ["older", "template", "used", "younger"]
            ),
        ] as [([String: String], [String])])
    func ages(options: [String: String], expected: [String]) async throws {
        #expect(try await left(options) == expected)
    }

    @Test("It is the folder that is set which is tidied")
    func folderName() async throws {
        let options = [
            "subdirectory_name": "images", "remove_unused_original_minimum_age_seconds": "4000",
        ]
        #expect(try await left(options, in: "images") == ["used"])
    }
}
