internal import Database
internal import GuestHardware
internal import Images
internal import Model

/// The image that the caller names, with what a host must know of it. Throws 400 when there is none that the caller may
/// use, or it has no bytes yet.
func usableImage(_ id: String, _ call: ComputeCall, _ parts: ComputeParts) async throws -> ImageReference {
    guard let image = try await parts.images.find(ImageID(id)),
        image.isVisible(to: call.caller.projectID) || call.caller.isAdmin
    else { throw APIError.badRequest("Can not find requested image: \(id)") }
    guard let reference = image.reference else {
        throw APIError.badRequest("Image \(id) is not active: it is \(image.status.rawValue).")
    }
    return reference
}

/// The same, for a server of `flavor` whose disk is to be made of it. Throws 400 also when the image does not fit the
/// flavor, or the two ask for a guest that cannot be.
func bootImage(
    _ id: String, for flavor: Flavor, _ call: ComputeCall, _ parts: ComputeParts
) async throws -> ImageReference {
    let image = try await usableImage(id, call, parts)
    try checkFit(image, flavor)
    // What the flavor and the image ask of the guest is known before any host is.
    do {
        let hardware = try GuestHardware(flavor: flavor, imageProperties: image.properties)
        try checkAliases(hardware, parts)
    } catch let error as HardwareError {
        throw APIError.badRequest("Flavor \(flavor.id) and image \(image.id) cannot make a server: \(error)")
    }
    return image
}

/// Throws 400 for a PCI alias that the API does not know, where it knows any.
func checkAliases(_ hardware: GuestHardware, _ parts: ComputeParts) throws(APIError) {
    guard let known = parts.settings.pciAliases else { return }
    for request in hardware.passthrough.requests where !known.contains(request.alias) {
        throw .badRequest("PCI alias \(request.alias) is not defined")
    }
}

func checkFit(_ image: ImageReference, _ flavor: Flavor) throws(APIError) {
    guard image.minMemoryMiB <= flavor.memoryMiB else {
        throw .badRequest(
            "Flavor's memory is too small for requested image: it has \(flavor.memoryMiB) MiB, "
                + "the image needs \(image.minMemoryMiB) MiB.")
    }
    guard flavor.rootGiB > 0 else { return }
    let disk = Int64(flavor.rootGiB) << 30
    guard image.virtualSizeBytes <= disk else {
        throw .badRequest(
            "Flavor's disk is too small for requested image. Flavor disk is \(disk) bytes, "
                + "image is \(image.virtualSizeBytes) bytes.")
    }
    guard image.minDiskGiB <= flavor.rootGiB else {
        throw .badRequest(
            "Flavor's disk is smaller than the minimum size specified in image metadata: it has "
                + "\(flavor.rootGiB) GiB, the image needs \(image.minDiskGiB) GiB.")
    }
}

/// The public key that the user has under this name; `nil` where none is named.
func publicKey(named name: String?, of user: UserID, _ parts: ComputeParts) async throws -> String? {
    guard let name else { return nil }
    guard let pair = try await parts.database.keyPairs.find(name, of: user) else {
        throw APIError.badRequest("Invalid key_name provided.")
    }
    return pair.publicKey
}
