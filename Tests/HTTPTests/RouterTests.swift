import HTTP
import Model
import Testing

private func echo(_ name: String) -> HTTPHandler {
    { request in
        let values = request.parameters.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        return .text(200, ([name] + values).joined(separator: " "))
    }
}

private func answer(_ router: Router, _ method: HTTPMethod, _ target: String) async -> String {
    let response = await router.handle(HTTPRequest(method, target))
    let text = String(decoding: response.bytes, as: UTF8.self)
    return response.status == 200 ? text : "\(response.status) \(response.headers["Allow"] ?? "")"
}

@Suite("Router", .timeLimit(.minutes(1)))
struct RouterTests {
    private let router: Router = {
        var router = Router()
        router.on(.get, "/", echo("root"))
        router.on(.get, "/servers", echo("list"))
        router.on(.post, "/servers", echo("create"))
        router.on(.get, "/servers/detail", echo("detail"))
        router.on(.get, "/servers/{id}", echo("show"))
        router.on(.delete, "/servers/{server_id}", echo("delete"))
        router.on(.post, "/servers/{id}/action", echo("action"))
        router.on(.get, "/files/{rest...}", echo("files"))
        router.on(.get, "/files/index", echo("index"))
        return router
    }()

    @Test(
        "The most literal route wins, and parameters are decoded",
        arguments: [
            ("/", "root"), ("/servers", "list"), ("/servers/", "list"), ("/servers?limit=1", "list"),
            ("/servers/detail", "detail"), ("/servers/a%20b", "show id=a b"), ("/servers/a%2Fb", "show id=a/b"),
            ("/servers/42/", "show id=42"), ("/servers/%C3%A9", "show id=é"), ("/files", "files rest="),
            ("/files/a/b", "files rest=a/b"), ("/files/index", "index"), ("/files/index/x", "files rest=index/x"),
        ])
    func routing(target: String, expected: String) async {
        #expect(await answer(router, .get, target) == expected)
    }

    @Test(
        "What no route has is 404, a method it does not have 405 with those it has",
        arguments: [
            (HTTPMethod.get, "/nothing", "404 "), (.get, "//servers", "404 "), (.get, "/servers//", "404 "),
            (.get, "/servers/1/2", "404 "), (.put, "/servers", "405 GET, HEAD, POST"),
            (.post, "/servers/7", "405 DELETE, GET, HEAD"), (HTTPMethod("BREW"), "/", "405 GET, HEAD"),
            (.get, "/servers/%", "400 "), (.get, "/servers/%zz", "400 "), (.get, "/servers/%ff", "400 "),
            (.get, "/servers/%00", "400 "), (.delete, "/servers/detail", "delete server_id=detail"),
        ])
    func refusals(method: HTTPMethod, target: String, expected: String) async {
        #expect(await answer(router, method, target) == expected)
    }

    @Test("HEAD is served by GET")
    func head() async {
        #expect(await answer(router, .head, "/servers/5") == "show id=5")
    }

    @Test("A mounted router answers below its prefix in its own words; the longest prefix wins")
    func mounting() async {
        var compute = Router()
        compute.on(.get, "/", echo("versions"))
        compute.on(.get, "/v2.1/servers/{id}", echo("server"))
        compute.notFound = { _ in .text(200, "compute knows nothing") }
        compute.failure = { _, _ in .text(200, "compute failed") }
        compute.on(.get, "/boom") { _ in throw Failure(.storage, "x") }
        var admin = Router()
        admin.on(.get, "/tasks", echo("tasks"))
        var root = router
        root.mount("/compute", compute)
        root.mount("/compute/admin/", admin)
        root.on(.get, "/{rest...}", echo("fallback"))

        #expect(await answer(root, .get, "/compute") == "versions")
        #expect(await answer(root, .get, "/compute/") == "versions")
        #expect(await answer(root, .get, "/compute/v2.1/servers/9") == "server id=9")
        #expect(await answer(root, .get, "/compute/none") == "compute knows nothing")
        #expect(await answer(root, .get, "/compute/boom") == "compute failed")
        #expect(await answer(root, .get, "/compute/admin/tasks") == "tasks")
        #expect(await answer(root, .get, "/compute/admin/none") == "404 ")
        #expect(await answer(root, .get, "/computer") == "fallback rest=computer")
        #expect(root.routes.contains { $0 == (.get, "/compute/v2.1/servers/{id}") })
        #expect(root.routes.contains { $0 == (.get, "/compute") })
    }

    @Test("Of two routers at one prefix the one that knows the path answers")
    func samePrefix() async {
        var first = Router()
        first.on(.get, "/a", echo("a"))
        var second = Router()
        second.on(.get, "/b", echo("b"))
        var root = Router()
        root.on(.get, "/own", echo("own"))
        root.mount("/", first)
        root.mount("/", second)
        #expect(await answer(root, .get, "/a") == "a")
        #expect(await answer(root, .get, "/b") == "b")
        #expect(await answer(root, .get, "/own") == "own")
        #expect(await answer(root, .get, "/c") == "404 ")
    }

    @Test("Middleware runs from the outermost in, also where there is no route, and sees errors as answers")
    func middleware() async {
        var inner = Router()
        inner.on(.get, "/fail") { _ in throw Failure(.conflict, "busy") }
        inner.middleware = [
            { request, next in
                if request.headers["X-Stop"] != nil { throw Failure(.forbidden, "stop") }
                return try await next(request)
            }
        ]
        var root = Router()
        root.middleware = [
            { request, next in
                var response = try await next(request)
                response.headers["X-Order"] = "outer " + (response.headers["X-Order"] ?? "")
                return response
            },
            { request, next in
                var response = try await next(request)
                response.headers["X-Order"] = "second \(response.status)"
                return response
            },
        ]
        root.mount("/in", inner)
        let failed = await root.handle(HTTPRequest(.get, "/in/fail"))
        #expect(failed.status == 409)
        #expect(failed.headers["x-order"] == "outer second 409")
        let stopped = await root.handle(HTTPRequest(.get, "/in/fail", headers: ["x-stop": "1"]))
        #expect(stopped.headers["x-order"] == "outer second 403")
        let missing = await root.handle(HTTPRequest(.get, "/none"))
        #expect(missing.headers["x-order"] == "outer second 404")
    }

    @Test("An unknown error tells the client nothing about itself")
    func unknownErrors() async throws {
        struct Secret: Error { let password = "hunter2" }
        var router = Router()
        router.on(.get, "/") { _ in throw Secret() }
        let response = await router.handle(HTTPRequest(.get, "/"))
        #expect(response.status == 500)
        #expect(try JSON(parsing: response.bytes) == ["error": ["code": 500, "message": "internal error"]])
    }

    @Test("A body over the route's limit is refused before the handler")
    func bodyLimit() async {
        var router = Router()
        router.on(.put, "/", RouteOptions(bodyLimit: 4)) { _ in HTTPResponse(204) }
        #expect(await router.handle(HTTPRequest(.put, "/", body: [1, 2, 3, 4])).status == 204)
        #expect(await router.handle(HTTPRequest(.put, "/", body: [1, 2, 3, 4, 5])).status == 413)
    }
}
