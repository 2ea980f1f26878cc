internal import Database
internal import Model
internal import Scheduling

/// What the database knows and a request's filters and weighers need, what runs where only where one of them reads it.
struct RequestFacts: Sendable {
    let database: ControlDatabase
    let options: SchedulingOptions

    func complete(_ asked: PlacementRequest) async throws -> PlacementRequest {
        var request = try await PlacementFacts(database: database).complete(asked)
        if let flavor = request.flavor, options.enabledFilters.contains("TypeAffinityFilter") {
            request.otherFlavorHosts = try await database.instances.hosts(withOtherFlavorThan: flavor.id)
        }
        if options.imagePropertiesWeight != 0 {
            request.setImagePropertyCounts(try await database.instances.imagePropertyCounts())
        }
        return request
    }
}
