import HTTP
import Images
import Model
import Testing

@Suite("The list of images")
struct ImageListTests {
    private func fill(_ images: ImageFixture) async throws {
        for (name, more) in [
            ("a", ["min_ram": 64, "image_type": "snapshot"]), ("b", ["min_ram": 64, "tags": ["red", "big"]]),
            ("c", ["disk_format": "qcow2", "tags": ["red"]]), ("d", ["os_hidden": true]),
        ] as [(String, [String: JSON])] {
            _ = try await images.register(more.merging(["name": .string(name)]) { $1 })
        }
    }

    @Test(
        "Filters choose by what clients see",
        arguments: [
            ("", "abc"), ("name=b", "b"), ("name=in:a,c", "ac"), ("name=in:%22a%22,%22b%22", "ab"), ("tag=red", "bc"),
            ("tag=red&tag=big", "b"), ("min_ram=64", "ab"), ("image_type=snapshot", "a"), ("disk_format=qcow2", "c"),
            ("status=queued", "abc"), ("status=active", ""), ("os_hidden=true", "d"), ("owner=p1", "abc"),
            ("created_at=gte:2026-01-01T00:00:00Z", "abc"), ("created_at=lt:2026-01-01T00:00:00Z", ""),
            ("protected=False", "abc"), ("limit=2", "ab"), ("limit=0", ""), ("visibility=all", "abc"),
        ])
    func filters(query: String, expected: String) async throws {
        try await ImageFixture.run { images in
            try await fill(images)
            #expect(try await images.names("?sort=name:asc&" + query).joined() == expected)
        }
    }

    @Test(
        "Bad queries are 400",
        arguments: [
            "limit=-1", "limit=x", "sort_key=secret", "sort_dir=up", "sort=name:up", "sort=name&sort_key=id",
            "marker=aaaaaaaa-1111-4111-8111-111111111111", "created_at=yesterday", "visibility=none",
            "name=in:%22a", "os_hidden=perhaps",
        ])
    func badQueries(query: String) async throws {
        try await ImageFixture.run { images in
            #expect(await images.send(.get, "/v2/images?" + query).status == 400)
        }
    }

    @Test(
        "Following next gives every image once, whatever the order", arguments: ["sort_key=name", "sort=name:asc", ""])
    func pages(order: String) async throws {
        try await ImageFixture.run { images in
            try await fill(images)
            var target = "/v2/images?limit=1&" + order
            var seen: [String] = []
            for _ in 0..<5 {
                let document = try JSON(parsing: await images.send(.get, target).bytes)
                seen += document["images"]?.list?.compactMap { $0["name"]?.text } ?? []
                guard let next = document["next"]?.text else { break }
                target = next
            }
            #expect(seen.sorted() == ["a", "b", "c"])
        }
    }
}
