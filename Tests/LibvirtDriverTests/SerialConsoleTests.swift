import Crypto
import Foundation
import Model
import Testing

@testable import LibvirtDriver

@Suite("Serial ports by TCP")
struct SerialConsoleTests {
    private static func folder(_ instances: TemporaryFolder) throws -> InstanceFolder {
        let folder = try InstanceFolder(InstanceID(makeUUID()), in: instances.path)
        try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
        return folder
    }

    /// Ports of this machine that nobody listens on, one after the other.
    private static func console(_ count: Int) -> SerialConsole {
        for first in stride(from: 21_000, to: 30_000, by: 16) {
            let console = SerialConsole(address: "127.0.0.1", ports: first..<(first + count))
            if console.ports.allSatisfy(console.isFree) { return console }
        }
        return SerialConsole(address: "127.0.0.1", ports: 30_000..<(30_000 + count))
    }

    @Test("Each guest keeps its ports, and no two have the same")
    func kept() throws {
        let (instances, console) = (try TemporaryFolder(), Self.console(4))
        let (one, two) = (try Self.folder(instances), try Self.folder(instances))
        let first = try SerialPortBook().ports(1, for: one, console, instances: instances.path)
        let second = try SerialPortBook().ports(2, for: two, console, instances: instances.path)
        #expect(first == [console.ports.lowerBound])
        #expect(second == [console.ports.lowerBound + 1, console.ports.lowerBound + 2])
        // Another agent, or the same one after its restart, finds them again; more are added to them.
        #expect(try SerialPortBook().ports(1, for: one, console, instances: instances.path) == first)
        let more = try SerialPortBook().ports(2, for: one, console, instances: instances.path)
        #expect(more == [first[0], console.ports.lowerBound + 3])
        // What a guest had goes with its folder.
        try FileManager.default.removeItem(atPath: two.path)
        let three = try Self.folder(instances)
        #expect(try SerialPortBook().ports(2, for: three, console, instances: instances.path) == second)
    }

    @Test("A range without a free port is a fault of the host that says so")
    func exhausted() throws {
        let (instances, console) = (try TemporaryFolder(), Self.console(2))
        _ = try SerialPortBook().ports(2, for: Self.folder(instances), console, instances: instances.path)
        let failure = #expect(throws: Failure.self) {
            _ = try SerialPortBook().ports(1, for: Self.folder(instances), console, instances: instances.path)
        }
        #expect(failure?.kind == .hypervisor && failure?.message.contains("port_range") == true)
    }

    @Test("Ranges and addresses are read as Nova writes them")
    func values() {
        #expect(SerialConsole.ports("10000:20000") == 10_000..<20_000)
        for text in ["", "10000", "20000:10000", "80:90", "1024:65537", "a:b", "1:2:3"] {
            #expect(SerialConsole.ports(text) == nil, "\(text)")
        }
        #expect(SerialConsole.isAddress("127.0.0.1") && SerialConsole.isAddress("::1"))
        #expect(!SerialConsole.isAddress("localhost") && !SerialConsole.isAddress(""))
    }
}
