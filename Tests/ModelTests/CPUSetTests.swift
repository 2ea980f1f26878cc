import Model
import Testing

@Suite("Sets of CPUs")
struct CPUSetTests {
    @Test(
        "Numbers, ranges, and what is taken out of them",
        arguments: [
            ("0", [0]), ("2-5,^3,8", [2, 4, 5, 8]), ("^4,4-6", [5, 6]), (" 1 , 3-3 ", [1, 3]), ("0-1,1-2", [0, 1, 2]),
        ])
    func read(text: String, expected: [Int]) {
        #expect(CPUSet(parsing: text)?.sorted == expected)
    }

    @Test(
        "Everything else is none",
        arguments: [
            "", ",", "1,", "a", "-1", "3-1", "1-", "-", "^", "^1", "1,^1", "1--2", "1-2-3", "65536", "0-99999999999",
            "1 2", "0x1",
            "+1", "١",
        ])
    func refused(text: String) { #expect(CPUSet(parsing: text) == nil) }

    @Test("Written with ranges", arguments: [("5,4,1,2,8", "1-2,4-5,8"), ("0", "0"), ("3-1000", "3-1000")])
    func written(text: String, expected: String) { #expect(CPUSet(parsing: text)?.description == expected) }
}
