import Foundation
import Glibc
import Model
import Synchronization
import Telemetry
import Testing

@testable import LibvirtDriver

@Suite("Images that nothing uses")
struct UnusedImageTests {
    private let folder: TemporaryFolder
    private let cache: ImageCache
    private let instances: String

    init() async throws {
        folder = try TemporaryFolder()
        instances = folder.path + "/instances"
        cache = ImageCache(
            folder: instances + "/_base", qemuImg: try #require(QemuImg()),
            files: BlockingExecutor(name: "test", threads: 4))
        try await cache.open()
    }

    private static let day = ImageCache.Retention()
    private static var atOnce: ImageCache.Retention {
        var retention = ImageCache.Retention(image: .zero, template: .zero)
        retention.grace = .zero
        return retention
    }

    private static func digest(_ number: Int) -> String {
        let text = String(number, radix: 16)
        return String(repeating: "0", count: 128 - text.count) + text
    }

    private func write(_ name: String, ageSeconds: Int = 0) throws {
        let path = cache.folder + "/" + name
        try Data([1]).write(to: URL(fileURLWithPath: path))
        let date = Date(timeIntervalSinceNow: -Double(ageSeconds))
        try FileManager.default.setAttributes([.modificationDate: date], ofItemAtPath: path)
    }

    /// The header of a qcow2 file over `backing`.
    private static func header(over backing: String) -> [UInt8] {
        func number(_ value: Int, _ bytes: Int) -> [UInt8] {
            (0..<bytes).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
        }
        let name = Array(backing.utf8)
        let head = [0x51, 0x46, 0x49, 0xFB] + number(3, 4) + number(104, 8) + number(name.count, 4) + number(16, 4)
        return head + number(1 << 30, 8) + [UInt8](repeating: 0, count: 72) + name
    }

    private func overlay(_ folderName: String, _ file: String, over name: String) throws {
        let path = instances + "/" + folderName
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Data(Self.header(over: cache.folder + "/" + name)).write(to: URL(fileURLWithPath: path + "/" + file))
    }

    private var names: [String] {
        get throws { try FileManager.default.contentsOfDirectory(atPath: cache.folder).sorted() }
    }

    @Test("The header that the other tests write is one that qemu-img's overlays have")
    func realHeader() async throws {
        let base = try folder.write([UInt8](repeating: 0, count: 512), to: "base")
        try await #require(QemuImg()).createOverlay(folder.path + "/disk", base: base, sizeBytes: 1 << 30)
        let made = try #require(try OverlayHeader.read(folder.path + "/disk"))
        _ = try folder.write(Self.header(over: base), to: "ours")
        #expect(try OverlayHeader.read(folder.path + "/ours") == made)
    }

    @Test("What is unused for longer than its time goes; what is younger, or none of the cache's, stays")
    func ages() async throws {
        let (old, young) = (Self.digest(1), Self.digest(2))
        try write(old, ageSeconds: 86_401)
        try write(young, ageSeconds: 86_000)
        try write("swap_64", ageSeconds: 3_601)
        try write("ephemeral_1_ext4", ageSeconds: 3_500)
        try write("somebody's file", ageSeconds: 1 << 24)
        try write(Self.digest(3) + ".part", ageSeconds: 86_401)
        try write(Self.digest(4) + ".part", ageSeconds: 86_000)
        let removed = try await cache.removeUnused(instances: instances, Self.day)
        #expect(removed.sorted() == [old, Self.digest(3) + ".part", "swap_64"].sorted())
        #expect(try names == [young, Self.digest(4) + ".part", "ephemeral_1_ext4", "somebody's file"].sorted())
    }

    @Test("No option lets a launch's image go between its fetch and its disk")
    func grace() async throws {
        try write(Self.digest(1), ageSeconds: 590)
        try write(Self.digest(2), ageSeconds: 610)
        let hasty = ImageCache.Retention(image: .zero, template: .zero)
        #expect(try await cache.removeUnused(instances: instances, hasty) == [Self.digest(2)])
    }

    @Test("Switched off, nothing is removed, but uses are recorded")
    func off() async throws {
        try write(Self.digest(1), ageSeconds: 1 << 20)
        try write(Self.digest(2), ageSeconds: 1 << 20)
        try overlay(Sample.id.rawValue, "disk", over: Self.digest(2))
        var retention = Self.atOnce
        retention.removesUnused = false
        #expect(try await cache.removeUnused(instances: instances, retention).isEmpty)
        #expect(try #require(Files.age(cache.folder + "/" + Self.digest(1))) > .seconds(1_000))
        #expect(try #require(Files.age(cache.folder + "/" + Self.digest(2))) < .seconds(100))
    }

    @Test("What a disk stands on that is arriving stays; what a hostile one says keeps nobody from tidying")
    func arriving() async throws {
        try write(Self.digest(1), ageSeconds: 1 << 20)
        try write(Self.digest(2), ageSeconds: 1 << 20)
        try write(Self.digest(3), ageSeconds: 1 << 20)
        try overlay(Sample.id.rawValue, "disk.incoming", over: Self.digest(1))
        try overlay(Sample.id.rawValue, "disk.local.arrived", over: Self.digest(2))
        // A guest's raw disk may begin with anything.
        try overlay(Sample.id.rawValue, "disk.eph0.incoming", over: Self.digest(3))
        let path = instances + "/\(Sample.id)/"
        _ = try DiskInfo.fix(["disk.eph0": .raw], in: InstanceFolder(found: instances + "/\(Sample.id)"))
        var odd = Self.header(over: "/x")
        odd[8] = 0x7F
        try Data(odd).write(to: URL(fileURLWithPath: path + "disk.eph1.incoming"))
        #expect(try await cache.removeUnused(instances: instances, Self.atOnce) == [Self.digest(3)])
        // In its place such a disk is looked into.
        try FileManager.default.moveItem(atPath: path + "disk.eph1.incoming", toPath: path + "disk.eph1")
        await #expect(throws: Failure.self) { _ = try await cache.removeUnused(instances: instances, Self.atOnce) }
    }

    @Test("What any folder's disk stands on stays and counts as used now, whoever's folder and whatever disk it is")
    func used() async throws {
        let places = [
            (Sample.id.rawValue, "disk"), (Sample.id.rawValue, "disk.local"), (Sample.id.rawValue, "disk.rescue"),
            ("\(Sample.id)_resize", "disk"), ("another host's", "disk.new"),
        ]
        for (number, place) in places.enumerated() {
            try write(Self.digest(number), ageSeconds: 1 << 20)
            try overlay(place.0, place.1, over: Self.digest(number))
        }
        #expect(try await cache.removeUnused(instances: instances, Self.atOnce).isEmpty)
        for number in places.indices {
            #expect(try #require(Files.age(cache.folder + "/" + Self.digest(number))) < .seconds(100))
        }
        try FileManager.default.removeItem(atPath: instances + "/another host's")
        #expect(try await cache.removeUnused(instances: instances, Self.atOnce) == [Self.digest(4)])
    }

    @Test("A raw disk's bytes say nothing; without a readable disk.info they only keep")
    func rawBytes() async throws {
        try write(Self.digest(1), ageSeconds: 1 << 20)
        try overlay(Sample.id.rawValue, "disk", over: Self.digest(1))
        let info = instances + "/\(Sample.id)/disk.info"
        try Data("{".utf8).write(to: URL(fileURLWithPath: info))
        #expect(try await cache.removeUnused(instances: instances, Self.atOnce).isEmpty)
        try Data(#"{"/elsewhere/disk":"raw"}"#.utf8).write(to: URL(fileURLWithPath: info))
        #expect(try await cache.removeUnused(instances: instances, Self.atOnce) == [Self.digest(1)])
    }

    @Test("What somebody holds, or is fetching, stays")
    func held() async throws {
        for number in 1...2 { try write(Self.digest(number), ageSeconds: 1 << 20) }
        try write(Self.digest(3) + ".part", ageSeconds: 1 << 20)
        let lease = try #require(try CacheLease.shared(cache.folder + "/" + Self.digest(1)))
        let lock = try #require(try PartLock(cache.folder + "/" + Self.digest(3) + ".part"))
        #expect(try await cache.removeUnused(instances: instances, Self.atOnce) == [Self.digest(2)])
        withExtendedLifetime((lease, lock)) {}
    }

    @Test("An overlay that cannot be read stops the pass: nothing is removed")
    func unreadable() async throws {
        try write(Self.digest(1), ageSeconds: 1 << 20)
        let path = instances + "/" + Sample.id.rawValue
        try FileManager.default.createDirectory(atPath: path + "/disk", withIntermediateDirectories: true)
        await #expect(throws: Failure.self) { try await cache.removeUnused(instances: instances, Self.atOnce) }
        #expect(try names == [Self.digest(1)])
    }

    @Test("Whatever launches and passes do at once, no disk ever stands on a file that is gone")
    func property() async throws {
        let other = ImageCache(
            folder: cache.folder, qemuImg: try #require(QemuImg()), files: BlockingExecutor(name: "test", threads: 4))
        let figures = Figures()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for launcher in 0..<6 {
                group.addTask {
                    var generator = Generator(seed: UInt64(launcher) + 1)
                    let cache = launcher.isMultiple(of: 2) ? cache : other
                    for round in 0..<120 {
                        let name = Self.digest(Int.random(in: 0..<3, using: &generator))
                        let place = "launch-\(launcher)-\(round)"
                        do {
                            try await cache.use(name) { path in
                                try overlay(place, "disk.new", over: name)
                                await Task.yield()
                                try Files.rename(
                                    instances + "/\(place)/disk.new", to: instances + "/\(place)/disk")
                                #expect(Files.exists(path))
                            }
                            figures.made.add(1, ordering: .relaxed)
                            await Task.yield()
                            #expect(Files.exists(cache.folder + "/" + name), "\(place) stands on nothing")
                            if Bool.random(using: &generator) { try Files.removeTree(instances + "/" + place) }
                        } catch let failure as Failure {
                            // Gone before the launch: fetched anew.
                            #expect(failure.kind == .storage)
                            figures.refused.add(1, ordering: .relaxed)
                            try Files.removeTree(instances + "/" + place)
                            try write(name)
                        }
                    }
                }
            }
            for cache in [cache, other] {
                group.addTask {
                    while !figures.isOver.load(ordering: .acquiring) {
                        let gone = try await cache.removeUnused(instances: instances, Self.atOnce)
                        figures.removed.add(gone.count, ordering: .relaxed)
                        await Task.yield()
                    }
                }
            }
            defer { figures.isOver.store(true, ordering: .releasing) }
            for _ in 0..<6 { try await group.next() }
        }
        let (made, removed) = (figures.made.load(ordering: .relaxed), figures.removed.load(ordering: .relaxed))
        #expect(made > 0 && removed > 0, "\(made) disks made, \(removed) files removed")
        for name in try DiskUsage.backings(in: instances, except: cache.folder) {
            #expect(Files.exists(cache.folder + "/" + name))
        }
    }

    private final class Figures: Sendable {
        let made = Atomic<Int>(0)
        let refused = Atomic<Int>(0)
        let removed = Atomic<Int>(0)
        let isOver = Atomic<Bool>(false)
    }

    /// Seeded, so that a failure can be repeated.
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 }

        mutating func next() -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state
        }
    }
}
