fn main(){}

