internal import Database
internal import HTTP
internal import Model
internal import Tasks

/// Images cached on the hosts of an aggregate before they are needed there.
extension ComputeRoutes {
    mutating func addAggregateImages() {
        let parts = parts
        add(.post, "os-aggregates/{id}/images", rule: "compute:aggregates:images", versions: 81...Int.max) { call in
            let id = try aggregateNumber(call)
            let images = try wantedImages(call)
            guard let aggregate = try await parts.database.aggregates.find(id) else {
                throw unknownAggregate(call)
            }
            var references: [ImageReference] = []
            for image in images { references.append(try await usableImage(image, call, parts)) }
            let rows = try aggregate.hosts.map { host in
                try TaskEngine.makeRow(
                    kind: TaskKind.cacheImages, requestID: call.requestID,
                    state: CacheImagesTaskState(host: host, images: references), now: parts.now())
            }
            try await parts.database.tasks.insert(rows)
            parts.conductor.wake()
            return HTTPResponse(202)
        }
    }
}

/// How many images one request may name.
private let imageLimit = 64

private func wantedImages(_ call: ComputeCall) throws(APIError) -> [String] {
    var fields = try BodyFields(try call.body(), as: "body")
    guard let entries = fields.take("cache")?.list, (1...imageLimit).contains(entries.count) else {
        throw .badRequest("Invalid input for field/attribute cache: 1 to \(imageLimit) images are wanted, a list.")
    }
    try fields.finish()
    var images: [String] = []
    for entry in entries {
        var fields = try BodyFields(entry, as: "cache")
        let id = try fields.requiredText("id").lowercased()
        try fields.finish()
        guard isUUID(id) else {
            throw .badRequest("Invalid input for field/attribute id: the uuid of an image is wanted.")
        }
        images.append(id)
    }
    guard Set(images).count == images.count else { throw .badRequest("An image is named twice.") }
    return images
}
