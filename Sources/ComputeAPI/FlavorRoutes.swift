internal import Crypto
internal import Database
internal import HTTP
internal import Model

/// The flavors.
extension ComputeRoutes {
    mutating func addFlavors() {
        let parts = parts
        add(.get, "flavors", rule: "flavors:index") { try await listFlavors($0, parts, isDetailed: false) }
        add(.get, "flavors/detail", rule: "flavors:index") { try await listFlavors($0, parts, isDetailed: true) }
        add(.get, "flavors/{id}", rule: "flavors:show") { call in
            flavorAnswer(try await findFlavor(call, parts), call)
        }
        add(.post, "flavors", rule: "os-flavor-manage:create") { call in
            let flavor = try readFlavor(call)
            do {
                try await parts.database.flavors.create(flavor, now: parts.now())
            } catch StoreError.exists(let what) {
                throw APIError.conflict("\(what) already exists.")
            }
            return flavorAnswer(flavor, call)
        }
        add(.put, "flavors/{id}", rule: "os-flavor-manage:update", versions: 55...Int.max) { call in
            let flavor = try await findFlavor(call, parts)
            var (fields, _) = try BodyFields.body(call.request.bytes, member: "flavor")
            guard let description = try fields.nullableText("description", length: 0...65_535) else {
                throw APIError.badRequest("Invalid input for flavor: 'description' is a required property.")
            }
            try fields.finish()
            return flavorAnswer(
                try await parts.database.flavors.update(flavor.id) { $0.description = description }, call)
        }
        add(.delete, "flavors/{id}", rule: "os-flavor-manage:delete") { call in
            try await parts.database.flavors.delete(try await findFlavor(call, parts).id)
            return HTTPResponse(202)
        }
    }
}

/// The flavor named in the path, if the caller may see it.
func findFlavor(_ call: ComputeCall, _ parts: ComputeParts) async throws -> Flavor {
    let id = call.parameter("id")
    guard let flavor = try await visibleFlavor(FlavorID(id), call, parts) else {
        throw APIError.notFound("Flavor \(id) could not be found.")
    }
    return flavor
}

/// The flavor of this id, if the caller may use it: a public one, or one that the caller's project has access to.
func visibleFlavor(_ id: FlavorID, _ call: ComputeCall, _ parts: ComputeParts) async throws -> Flavor? {
    guard let flavor = try await parts.database.flavors.find(id) else { return nil }
    if flavor.isPublic || call.caller.isAdmin { return flavor }
    let isGranted = try await parts.database.flavorAccess.isGranted(id, to: call.caller.projectID)
    return isGranted ? flavor : nil
}

private func listFlavors(_ call: ComputeCall, _ parts: ComputeParts, isDetailed: Bool) async throws -> HTTPResponse {
    try call.requireKnownQuery(["is_public", "limit", "marker", "minDisk", "minRam", "sort_dir", "sort_key"])
    let leastDisk = try amount(call, "minDisk")
    let leastMemory = try amount(call, "minRam")
    let wantsPublic = try visibility(call)
    let granted =
        call.caller.isAdmin ? [] : try await parts.database.flavorAccess.flavors(of: call.caller.projectID)
    let flavors = try await parts.database.flavors.list().filter { flavor in
        flavor.rootGiB >= leastDisk && flavor.memoryMiB >= leastMemory
            && (granted.contains(flavor.id) || wantsPublic.map { $0 == flavor.isPublic } ?? true)
    }
    let page = try call.page(of: try sorted(flavors, call), maximum: parts.settings.maxLimit) { $0.id.rawValue }
    return jsonAnswer(capacity: 64 + page.things.count * 640) { writer in
        writer.array("flavors") { writer in
            for flavor in page.things {
                writer.object { isDetailed ? writeFlavor(flavor, call, to: &$0) : writeBrief(flavor, call, to: &$0) }
            }
        }
        if let next = page.next {
            call.writeNext(
                "flavors_links", path: isDetailed ? "flavors/detail" : "flavors", marker: next, to: &writer)
        }
    }
}

private func amount(_ call: ComputeCall, _ name: String) throws(APIError) -> Int {
    guard let text = call.query[name] else { return 0 }
    guard let amount = Int(text), amount >= 0 else {
        throw .badRequest("Invalid \(name) filter [\(text)]")
    }
    return amount
}

/// Which flavors are listed: `nil` for all. Others than administrators see public ones and those
/// that their project has access to, whatever they ask.
private func visibility(_ call: ComputeCall) throws(APIError) -> Bool? {
    guard call.caller.isAdmin, let text = call.query["is_public"] else { return true }
    if text.lowercased() == "none" { return nil }
    guard let flag = parseFlag(text) else { throw .badRequest("Invalid is_public filter [\(text)]") }
    return flag
}

private func sorted(_ flavors: [Flavor], _ call: ComputeCall) throws(APIError) -> [Flavor] {
    let key = call.query["sort_key"] ?? "flavorid"
    let direction = call.query["sort_dir"] ?? "asc"
    guard direction == "asc" || direction == "desc" else {
        throw .badRequest("Unknown sort direction, must be 'desc' or 'asc'")
    }
    let isBefore: (Flavor, Flavor) -> Bool
    switch key {
    case "flavorid", "id", "created_at", "updated_at": isBefore = { $0.id < $1.id }
    case "name": isBefore = { ($0.name, $0.id) < ($1.name, $1.id) }
    case "memory_mb": isBefore = { ($0.memoryMiB, $0.id) < ($1.memoryMiB, $1.id) }
    case "root_gb": isBefore = { ($0.rootGiB, $0.id) < ($1.rootGiB, $1.id) }
    case "vcpus": isBefore = { ($0.vcpus, $0.id) < ($1.vcpus, $1.id) }
    case "ephemeral_gb": isBefore = { ($0.ephemeralGiB, $0.id) < ($1.ephemeralGiB, $1.id) }
    case "swap": isBefore = { ($0.swapMiB, $0.id) < ($1.swapMiB, $1.id) }
    default: throw .badRequest("Invalid input for query parameter sort_key: flavors are not sorted by '\(key)'.")
    }
    return flavors.sorted { direction == "asc" ? isBefore($0, $1) : isBefore($1, $0) }
}

private func readFlavor(_ call: ComputeCall) throws(APIError) -> Flavor {
    let most = Int(Int32.max)
    var (fields, _) = try BodyFields.body(call.request.bytes, member: "flavor")
    let name = try fields.requiredName("name")
    let id: String
    switch fields.take("id") {
    case nil, .null, .string("auto"): id = makeUUID()
    case .integer(let number): id = String(number)
    case .string(let text):
        let trimmed = text.first?.isWhitespace == false && text.last?.isWhitespace == false
        guard (1...255).contains(text.unicodeScalars.count), trimmed, !text.utf8.contains(0), !text.contains("/") else {
            throw .badRequest(
                "Invalid input for field/attribute id: a number or a text of 1 to 255 characters is wanted.")
        }
        id = text
    default: throw .badRequest("Invalid input for field/attribute id: a number or a text is wanted.")
    }
    var flavor = Flavor(
        id: FlavorID(id), name: name, vcpus: try fields.requiredInteger("vcpus", 1...most),
        memoryMiB: try fields.requiredInteger("ram", 1...most), rootGiB: try fields.requiredInteger("disk", 0...most))
    flavor.ephemeralGiB = try fields.integer("OS-FLV-EXT-DATA:ephemeral", 0...most) ?? 0
    flavor.swapMiB = try fields.integer("swap", 0...most) ?? 0
    if let factor = try fields.number("rxtx_factor") {
        guard factor > 0 else {
            throw .badRequest("Invalid input for field/attribute rxtx_factor: more than 0 is wanted.")
        }
        flavor.rxtxFactor = factor
    }
    flavor.isPublic = try fields.flag("os-flavor-access:is_public") ?? true
    if call.isAtLeast(55) { flavor.description = try fields.nullableText("description", length: 0...65_535) ?? nil }
    try fields.finish()
    return flavor
}

private func flavorAnswer(_ flavor: Flavor, _ call: ComputeCall) -> HTTPResponse {
    jsonAnswer(capacity: 768) { writer in
        writer.object("flavor") { writeFlavor(flavor, call, to: &$0) }
    }
}

private func writeBrief(_ flavor: Flavor, _ call: ComputeCall, to writer: inout JSONWriter) {
    writer.member("id", flavor.id.rawValue)
    writer.member("name", flavor.name)
    if call.isAtLeast(55) { writer.member("description", flavor.description) }
    call.writeLinks("flavors/\(PercentEncoding.encode(flavor.id.rawValue))", to: &writer)
}

private func writeFlavor(_ flavor: Flavor, _ call: ComputeCall, to writer: inout JSONWriter) {
    writeBrief(flavor, call, to: &writer)
    writer.member("ram", flavor.memoryMiB)
    writer.member("disk", flavor.rootGiB)
    writer.member("vcpus", flavor.vcpus)
    // Clients before 2.75 know no swap as an empty text.
    if flavor.swapMiB == 0, !call.isAtLeast(75) {
        writer.member("swap", "")
    } else {
        writer.member("swap", flavor.swapMiB)
    }
    writer.member("OS-FLV-EXT-DATA:ephemeral", flavor.ephemeralGiB)
    writer.member("OS-FLV-DISABLED:disabled", flavor.isDisabled)
    writer.member("os-flavor-access:is_public", flavor.isPublic)
    writer.member("rxtx_factor", flavor.rxtxFactor)
    guard call.isAtLeast(61), call.allows("os-flavor-extra-specs:index") else { return }
    writer.object("extra_specs") { writer in
        for (key, value) in flavor.extraSpecs.sorted(by: { $0.key < $1.key }) { writer.member(key, value) }
    }
}
