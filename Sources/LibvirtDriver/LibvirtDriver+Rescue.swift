public import Compute
internal import Libvirt
public import Model
internal import Telemetry

extension LibvirtDriver {
    public func createRescueDisks(_ guest: GuestSpecification) async throws {
        let surroundings = try ready()
        guard let image = guest.rescueImage else {
            throw Failure(.invalidParameters, "instance \(guest.instance.id) is given no image to be rescued with")
        }
        let folder = try InstanceFolder(guest.instance.id, in: instancesPath)
        // Known before anything is made for a rescue that cannot be.
        if image.properties.keys.contains(where: { $0.hasPrefix("hw_rescue_") }) {
            _ = try await rescueHardware(
                of: guest, try await machinePlan(guest.instance.flavor, guest.image))
        }
        let entry = DiskPlan.rescue(image)
        let settings = surroundings.diskSettings
        let (format, isThere) = try await files.run { () throws(Failure) in
            guard Files.exists(folder.path) else {
                throw Failure(.storage, "instance \(guest.instance.id) has no folder \(folder.path)")
            }
            let isThere = Files.exists(folder.path + "/" + entry.name)
            // What an earlier rescue left fixed in the file goes for a disk that is yet to be made, too.
            let info = try DiskInfo.fix(
                [entry.name: settings.format, InstanceFolder.rescueConfigDriveName: .raw], in: folder)
            return (info[entry.name] ?? settings.format, isThere)
        }
        guard !isThere else { return }
        let (id, needed) = (guest.instance.id, settings.cost(entry, format))
        try await files.run { () throws(Failure) in
            try self.reservations.take(needed, for: id, "the rescue of instance \(id)", in: self.instancesPath)
        }
        defer { reservations.give(id) }
        try await DiskMaker(surroundings, folder, entry, format, files).make()
    }

    public func removeRescueDisks(_ id: InstanceID) async throws {
        let folder = try InstanceFolder(id, in: instancesPath)
        if let entry = try await entry(of: id), entry.isOurs, try await status(of: id)?.state.isActive == true {
            throw Failure(.storage, "the disks of \(entry.name) are in use", isRetriable: true)
        }
        try await files.run { () throws(Failure) in
            for name in [InstanceFolder.rescueName, InstanceFolder.rescueConfigDriveName] {
                try Files.remove(folder.path + "/" + name)
                try Files.remove(folder.path + "/" + name + ".new")
            }
            try Files.removeTree(folder.rescueConfigDrive + ".content")
        }
    }
}

extension DiskPlan {
    /// The disk that a guest is rescued with; it has the size of its image.
    static func rescue(_ image: ImageReference) -> Entry {
        Entry(
            role: .rescue, name: InstanceFolder.rescueName, source: .image(image), sizeBytes: image.virtualSizeBytes)
    }
}
