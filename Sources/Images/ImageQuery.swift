internal import HTTP
internal import Model

/// What a client asks of the list of images: filters, order, page.
struct ImageQuery {
    static let defaultLimit = 25
    static let maximumLimit = 1_000
    private static let maximumSortKeys = 10

    typealias Filter = @Sendable (ImageRecord) -> Bool

    struct SortKey {
        let name: String
        let isAscending: Bool
    }

    private var filters: [Filter] = []
    private var sortKeys: [SortKey] = []
    private(set) var limit = ImageQuery.defaultLimit
    private(set) var marker: ImageID?
    private let caller: ImageCaller

    init(_ items: QueryItems, caller: ImageCaller) throws(ImageError) {
        self.caller = caller
        var wantsHidden = false
        var visibility: String?
        for (name, value) in items.items {
            switch name {
            case "limit": limit = min(try Self.count(name, value), Self.maximumLimit)
            case "marker": marker = ImageID(value.lowercased())
            case "sort", "sort_key", "sort_dir", "member_status": continue
            case "visibility": visibility = value
            case "os_hidden": wantsHidden = try Self.flag(name, value)
            default: filters.append(try Self.filter(name, value))
            }
        }
        filters.append { [wantsHidden] in $0.isHidden == wantsHidden }
        filters.append(try Self.visibility(visibility, caller))
        sortKeys = try Self.sortKeys(items)
    }

    /// The page of `images` that was asked for, and whether more follows.
    /// Throws 400 when the marker is no image that the caller can see.
    func page(of images: [ImageRecord]) throws(ImageError) -> (images: [ImageRecord], hasMore: Bool) {
        var rest = images.filter { image in filters.allSatisfy { $0(image) } }.sorted(by: precedes)[...]
        if let marker {
            guard let last = images.first(where: { $0.id == marker }) else {
                throw .invalid("Invalid marker. Image \(marker) could not be found.")
            }
            // The marker itself may no longer match the filters: its place in the order still counts.
            rest = rest.drop { !precedes(last, $0) }
        }
        return (Array(rest.prefix(limit)), rest.count > limit)
    }

    private func precedes(_ left: ImageRecord, _ right: ImageRecord) -> Bool {
        for key in sortKeys {
            let (first, second) = (Self.sortValue(left, key.name), Self.sortValue(right, key.name))
            if first != second { return key.isAscending ? first < second : second < first }
        }
        return left.id < right.id
    }

    // MARK: - Filters

    private static func visibility(_ text: String?, _ caller: ImageCaller) throws(ImageError) -> Filter {
        guard let text else {
            // Community images of others are listed only when asked for.
            guard !caller.isAdmin else { return { $0.visibility != .community || $0.owner == caller.projectID } }
            return { $0.owner == caller.projectID || $0.visibility == .public }
        }
        guard text != "all" else { return { _ in true } }
        guard let wanted = ImageVisibility(rawValue: text) else {
            throw .invalid("Invalid visibility value: '\(text)'.")
        }
        return { $0.visibility == wanted }
    }

    private static func filter(_ name: String, _ value: String) throws(ImageError) -> Filter {
        switch name {
        case "name":
            let names = try choices(value)
            return { image in image.name.map(names.contains) ?? false }
        case "id":
            let ids = Set(try choices(value).map { $0.lowercased() })
            return { ids.contains($0.id.rawValue) }
        case "status":
            let statuses = try choices(value)
            return { statuses.contains($0.status.rawValue) }
        case "owner": return { $0.owner.rawValue == value }
        case "tag": return { $0.tags.contains(value) }
        case "disk_format":
            let formats = try choices(value)
            return { image in image.diskFormat.map { formats.contains($0.rawValue) } ?? false }
        case "container_format":
            let formats = try choices(value)
            return { image in image.containerFormat.map(formats.contains) ?? false }
        case "checksum": return { $0.checksum == value }
        case "os_hash_algo": return { $0.sha512 != nil && value == "sha512" }
        case "os_hash_value": return { $0.sha512 == value }
        case "protected":
            let wanted = try flag(name, value)
            return { $0.isProtected == wanted }
        case "min_ram":
            let amount = try count(name, value)
            return { $0.minMemoryMiB == amount }
        case "min_disk":
            let amount = try count(name, value)
            return { $0.minDiskGiB == amount }
        case "size":
            let amount = try count(name, value)
            return { $0.sizeBytes == Int64(amount) }
        case "size_min":
            let amount = try count(name, value)
            return { ($0.sizeBytes ?? 0) >= amount }
        case "size_max":
            let amount = try count(name, value)
            return { ($0.sizeBytes ?? 0) <= amount }
        case "created_at": return try time(value, \.createdAt)
        case "updated_at": return try time(value, \.updatedAt)
        default: return { $0.properties[name] == value }
        }
    }

    /// `text`, or `in:` and texts with commas between, each perhaps in double quotes.
    private static func choices(_ value: String) throws(ImageError) -> Set<String> {
        guard value.hasPrefix("in:") else { return [value] }
        var found: Set<String> = []
        var current = ""
        var isQuoted = false
        for character in value.dropFirst(3) {
            switch character {
            case "\"": isQuoted.toggle()
            case "," where !isQuoted:
                found.insert(current)
                current = ""
            default: current.append(character)
            }
        }
        guard !isQuoted else { throw .invalid("Invalid filter value \(value). The quote is not closed.") }
        found.insert(current)
        return found
    }

    private static func time(
        _ value: String, _ member: KeyPath<ImageRecord, Timestamp> & Sendable
    ) throws(ImageError) -> Filter {
        let parts = value.split(separator: ":", maxSplits: 1)
        let names: Set<String> = ["gt", "gte", "lt", "lte", "eq", "neq"]
        let hasOperator = parts.count == 2 && names.contains(String(parts[0]))
        let comparison = hasOperator ? String(parts[0]) : "eq"
        guard let moment = Timestamp(iso8601: hasOperator ? String(parts[1]) : value) else {
            throw .invalid("Invalid time '\(value)': ISO 8601 is wanted, perhaps after an operator such as gte:.")
        }
        // Clients see whole seconds, so whole seconds are what they compare.
        let wanted = moment.microseconds / 1_000_000
        return { image in
            let found = image[keyPath: member].microseconds / 1_000_000
            return switch comparison {
            case "gt": found > wanted
            case "gte": found >= wanted
            case "lt": found < wanted
            case "lte": found <= wanted
            case "neq": found != wanted
            default: found == wanted
            }
        }
    }

    private static func count(_ name: String, _ value: String) throws(ImageError) -> Int {
        guard let count = Int(value), count >= 0 else {
            throw .invalid("Invalid value '\(value)' for '\(name)': a whole number, 0 or more, is wanted.")
        }
        return count
    }

    private static func flag(_ name: String, _ value: String) throws(ImageError) -> Bool {
        switch value.lowercased() {
        case "true": return true
        case "false": return false
        default: throw .invalid("Invalid value '\(value)' for '\(name)': true or false is wanted.")
        }
    }

    // MARK: - Order

    private enum SortValue: Comparable {
        case none
        case number(Int64)
        case text(String)
    }

    private static let sortable: Set<String> = [
        "name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at", "owner",
        "visibility", "min_disk", "min_ram", "protected",
    ]

    private static func sortValue(_ image: ImageRecord, _ key: String) -> SortValue {
        switch key {
        case "name": image.name.map(SortValue.text) ?? .none
        case "status": .text(image.status.rawValue)
        case "container_format": image.containerFormat.map(SortValue.text) ?? .none
        case "disk_format": image.diskFormat.map { .text($0.rawValue) } ?? .none
        case "size": image.sizeBytes.map(SortValue.number) ?? .none
        case "id": .text(image.id.rawValue)
        case "updated_at": .number(image.updatedAt.microseconds)
        case "owner": .text(image.owner.rawValue)
        case "visibility": .text(image.visibility.rawValue)
        case "min_disk": .number(Int64(image.minDiskGiB))
        case "min_ram": .number(Int64(image.minMemoryMiB))
        case "protected": .number(image.isProtected ? 1 : 0)
        default: .number(image.createdAt.microseconds)
        }
    }

    private static func sortKeys(_ items: QueryItems) throws(ImageError) -> [SortKey] {
        var keys: [SortKey] = []
        let names = items.all("sort_key")
        let directions = items.all("sort_dir")
        if let sort = items["sort"] {
            guard names.isEmpty, directions.isEmpty else {
                throw .invalid("Old and new sorting syntax cannot be combined")
            }
            for part in sort.split(separator: ",") {
                let pieces = part.split(separator: ":", maxSplits: 1)
                keys.append(try sortKey(String(pieces[0]), pieces.count == 2 ? String(pieces[1]) : "desc"))
            }
        } else {
            guard directions.count <= max(1, names.count) else {
                throw .invalid("Number of sort dirs does not match the number of sort keys")
            }
            for (index, name) in names.enumerated() {
                let direction =
                    directions.count == 1 ? directions[0] : (index < directions.count ? directions[index] : "desc")
                keys.append(try sortKey(name, direction))
            }
            if names.isEmpty { keys.append(try sortKey("created_at", directions.first ?? "desc")) }
        }
        guard keys.count <= maximumSortKeys else { throw .invalid("More than \(maximumSortKeys) sort keys.") }
        return keys
    }

    private static func sortKey(_ name: String, _ direction: String) throws(ImageError) -> SortKey {
        guard sortable.contains(name) else {
            throw .invalid(
                "Invalid sort key: \(name). It must be one of: \(sortable.sorted().joined(separator: ", ")).")
        }
        guard direction == "asc" || direction == "desc" else {
            throw .invalid("Invalid sort direction: \(direction). It must be asc or desc.")
        }
        return SortKey(name: name, isAscending: direction == "asc")
    }
}
