internal import Libvirt
public import Model
internal import XML

extension LibvirtDriver {
    public func diagnostics(_ id: InstanceID) async throws -> GuestDiagnostics {
        let entry = try await active(id, "asked for diagnostics")
        let statistics = try await connection(.statistics)
        let stats: DomainStats
        let document: XMLNode
        do {
            stats = try await statistics.statistics(
                of: .uuid(id.rawValue), [.state, .cpu, .balloon, .vcpus, .interfaces, .blocks])
            document = try XMLNode(parsing: try await connection(.work).xml(of: .uuid(id.rawValue)))
        } catch let error as LibvirtError {
            throw Failure(error, "looking at \(entry.name)")
        } catch let error as XMLError {
            throw Failure(.hypervisor, "the XML of \(entry.name) cannot be read: \(error)", isRetriable: true)
        }
        return GuestDiagnostics(stats, document)
    }
}

extension GuestDiagnostics {
    /// - Parameter document: the running domain's XML, which says what the figures are about.
    init(_ stats: DomainStats, _ document: XMLNode) {
        func figure(_ name: String) -> Int64? { stats.values[name]?.unsignedValue.map { Int64(clamping: $0) } }
        let processors = stats.vcpus.map { vcpu in
            Processor(id: vcpu.number, timeNanoseconds: figure("vcpu.\(vcpu.number).time"))
        }
        let macs = Dictionary(
            document.all("devices/interface").compactMap { nic -> (String, String)? in
                guard let device = nic.first("target")?["dev"], let mac = nic.first("mac")?["address"] else {
                    return nil
                }
                return (device, mac)
            }
        ) { first, _ in first }
        let interfaces = stats.interfaces.enumerated().map { index, interface in
            var nic = Interface(macAddress: interface.name.flatMap { macs[$0] })
            nic.receivedBytes = figure("net.\(index).rx.bytes")
            nic.receivedPackets = figure("net.\(index).rx.pkts")
            nic.receivedErrors = figure("net.\(index).rx.errs")
            nic.receivedDrops = figure("net.\(index).rx.drop")
            nic.sentBytes = figure("net.\(index).tx.bytes")
            nic.sentPackets = figure("net.\(index).tx.pkts")
            nic.sentErrors = figure("net.\(index).tx.errs")
            nic.sentDrops = figure("net.\(index).tx.drop")
            return nic
        }
        let disks = stats.blocks.enumerated().compactMap { index, block -> Disk? in
            guard let name = block.name else { return nil }
            var disk = Disk(device: name)
            disk.readBytes = figure("block.\(index).rd.bytes")
            disk.readRequests = figure("block.\(index).rd.reqs")
            disk.writtenBytes = figure("block.\(index).wr.bytes")
            disk.writeRequests = figure("block.\(index).wr.reqs")
            disk.errors = figure("block.\(index).errors")
            return disk
        }
        let maximum = stats.maximumMemoryKiB ?? document.first("memory").flatMap { UInt64($0.text) } ?? 0
        let used: Int64? = figure("balloon.unused").flatMap { unused in
            figure("balloon.available").map { max(0, $0 - unused) / 1_024 }
        }
        self.init(
            powerState: PowerState(stats.status), hypervisor: document["type"] ?? "qemu", uptimeSeconds: nil,
            hasConfigDrive: document.all("devices/disk").contains { disk in
                disk.first("source")?["file"]?.contains("/" + InstanceFolder.configDriveName) == true
            },
            processors: processors, interfaces: interfaces, disks: disks,
            memoryMaximumMiB: Int64(clamping: maximum / 1_024), memoryUsedMiB: used)
    }
}
