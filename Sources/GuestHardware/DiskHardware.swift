/// How a guest's disks are plugged, and how fast they may be.
public struct DiskHardware: Sendable, Hashable {
    /// `nil`: virtio.
    public var bus: DiskBus?
    /// `nil`: what the machine type has.
    public var cdromBus: CDROMBus?
    /// Of the controller that disks on `scsi` hang on; `nil` is the hypervisor's default.
    public var scsiModel: SCSIModel?
    public var limits: DiskLimits
    public var isRingPacked: Bool
    /// What the image asks for where it is the one that a guest is rescued with.
    public var rescue: RescueHardware?

    init(_ reader: HardwareReader) throws(HardwareError) {
        bus = try reader.choice(property: "hw_disk_bus")
        cdromBus = try reader.choice(property: "hw_cdrom_bus")
        scsiModel = try reader.choice(property: "hw_scsi_model")
        limits = try DiskLimits(reader)
        isRingPacked = try reader.agreedFlag("virtio_packed_ring") ?? false
        rescue = try RescueHardware(reader)
    }
}

/// Bytes and operations a second of each local disk; `nil` is no limit.
public struct DiskLimits: Sendable, Hashable {
    public var readBytes: Int?
    public var writeBytes: Int?
    public var totalBytes: Int?
    public var readOperations: Int?
    public var writeOperations: Int?
    public var totalOperations: Int?

    public var isEmpty: Bool {
        [readBytes, writeBytes, totalBytes, readOperations, writeOperations, totalOperations].allSatisfy { $0 == nil }
    }

    init(_ reader: HardwareReader) throws(HardwareError) {
        func limit(_ name: String) throws(HardwareError) -> Int? {
            // 0 is written for no limit.
            try reader.whole(spec: "quota:disk_\(name)_sec").flatMap { $0 == 0 ? nil : $0 }
        }
        (readBytes, readOperations) = (try limit("read_bytes"), try limit("read_iops"))
        (writeBytes, writeOperations) = (try limit("write_bytes"), try limit("write_iops"))
        (totalBytes, totalOperations) = (try limit("total_bytes"), try limit("total_iops"))
        for unit in ["bytes", "iops"] {
            guard try limit("total_" + unit) != nil, let total = reader.spec("quota:disk_total_\(unit)_sec") else {
                continue
            }
            for part in ["read", "write"] where try limit("\(part)_\(unit)") != nil {
                throw HardwareError(total, "quota:disk_\(part)_\(unit)_sec excludes it")
            }
        }
    }
}
