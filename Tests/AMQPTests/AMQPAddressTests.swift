import AMQP
import Testing

@Suite("Where a broker is")
struct AMQPAddressTests {
    @Test("A URL says host, port, user, virtual host and whether there is TLS")
    func read() throws {
        let whole = try #require(AMQPAddress("amqps://nova@broker.example:5673/cloud"))
        #expect(whole.host == "broker.example" && whole.port == 5_673 && whole.user == "nova")
        #expect(whole.space == "cloud" && whole.isSecure)
        let short = try #require(AMQPAddress("amqp://broker"))
        #expect(short.port == 5_672 && short.user == "guest" && short.space == "/" && !short.isSecure)
        #expect(AMQPAddress("amqps://broker/")?.port == 5_671)
        #expect(AMQPAddress("amqp://u@[::1]:5/x")?.host == "::1" && AMQPAddress("amqp://[::1]")?.port == 5_672)
        #expect(AMQPAddress("amqp://a@b/c/d")?.space == "c/d" && AMQPAddress("amqp://a@b/%2F")?.space == "/")
        #expect(AMQPAddress("amqp://a%40b@c/%c3%bc")?.user == "a@b" && AMQPAddress("amqp://b/%c3%bc")?.space == "ü")
    }

    @Test(
        "What is no address of a broker, or holds a password, is refused",
        arguments: [
            "", "amqp://", "http://broker", "amqp://user:secret@broker", "amqp://@broker", "amqp://broker:0",
            "amqp://broker:65536", "amqp://broker:x", "amqp://broker:", "amqp:///x", "amqp://broker/x?y=z",
            "amqp://broker/x#y", "amqp://[::1]5672", "amqp://[::1]:", "amqp://b/%", "amqp://b/%2", "amqp://b/%zz",
            "amqp://b/%00", "amqp://b/%ff",
        ])
    func refused(text: String) {
        #expect(AMQPAddress(text) == nil)
    }
}
